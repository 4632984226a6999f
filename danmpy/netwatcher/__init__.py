"""Host devices: what this node should have (pure), the plan to get there (pure), and the loop that does it."""
