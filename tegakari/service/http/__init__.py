"""HTTP semantics: content negotiation, ETags, parameters, problems."""
