"""What the kubelet of this node says: which devices its pods were given.

The only user of gRPC and protobuf. Features do not belong here.
"""
