"""SAEs on disk, one file per format: SAELens (read and written), and those that `registry.py` lists (read).

To add a format:

1. Write `sae_formats/NAME.py` with a function `load(directory: Path) -> Sae` and, at its end, `FORMAT`, an `SaeFormat`
   of the name, the files by which a directory is recognized, and `load`; or the file name, for a format of one file per
   SAE. For an SAE that it cannot reproduce, `load` raises an `SaeError` that names the field at fault; the registry
   reports damaged files and missing keys.
2. Add `NAME.FORMAT` to `FORMATS` in `registry.py`. No two formats may be recognized by the same files.
3. Add a layout to `tests/support/sae_layouts.py`, or to `tests/support/published_saes.py` if its library cannot be
   installed: a function that writes such files, and the library's formula in numpy float64. All tests of
   `tests/models/sae_formats/test_formats.py` then run for it.
"""

from tegakari.models.sae_formats.registry import load_sae
from tegakari.models.sae_formats.saelens import save_sae
from tegakari.models.sae_formats.sets import check_fits, load_saes, sae_files

__all__ = ["check_fits", "load_sae", "load_saes", "sae_files", "save_sae"]
