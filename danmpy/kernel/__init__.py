"""The only user of pyroute2: links, namespaces and frames. Knows none of the features."""
