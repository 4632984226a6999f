"""In whose words a pod asks for its interfaces: one pure reader for each dialect, one door.

`reading.read_pod` is the door. Each dialect turns the annotations that it knows into the same
values (`InterfaceAsk`); what happens to them afterwards knows no dialect.
"""
