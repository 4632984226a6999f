"""Drives any CNI plugin through the specification, and tells what it does and does not do.

pytest tests/conformance                                    # ours, and Debian's reference plugins
pytest tests/conformance --cni-plugin PATH --cni-config FILE [--cni-kind interface|ipam|chained]
pytest tests/conformance --cni-table FILE                   # the table, in Markdown
"""
