"""All wishes together: the sources of intent and the one door from raw manifests to trusted values."""
