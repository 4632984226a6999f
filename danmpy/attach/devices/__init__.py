"""Devices of pods: which the kubelet or a claim gave them, and which interface gets which."""
