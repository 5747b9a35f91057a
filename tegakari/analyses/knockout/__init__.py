"""What breaks without these features: they are taken out of a layer, and the classifier reads the documents again.

Definitions: docs/knockout.md; the study, section 4.3.
"""

from tegakari.analyses.knockout.run import knock_out, knock_out_all, knockout_key, stored_knockout
from tegakari.analyses.knockout.settings import resolve

__all__ = ["knock_out", "knock_out_all", "knockout_key", "resolve", "stored_knockout"]
