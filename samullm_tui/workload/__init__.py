"""From files to nouns: application files, data sets, prompts, requests, cluster files."""
