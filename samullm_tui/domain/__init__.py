"""The nouns: application, request, cluster, plan, event, error. Knows nothing else of ours."""
