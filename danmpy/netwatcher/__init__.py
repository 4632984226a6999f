"""Host devices: what this node should have, the plan to get there, and the loop that does it."""
