"""What an ADD is to make: the whole pod is decided, or refused, before anything is touched."""
