"""From Multus to danmpy: its configuration, and its cache of the pods that run."""
