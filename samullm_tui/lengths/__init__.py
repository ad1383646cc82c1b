"""Output-length distributions: empirical tables, fitted families, and drawing one length per request. Pure."""
