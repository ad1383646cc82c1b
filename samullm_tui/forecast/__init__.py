"""From an application and a cluster to a planning problem, and from that to ranked plans."""
