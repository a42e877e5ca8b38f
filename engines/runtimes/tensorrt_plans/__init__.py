"""Code shared by TensorRT and TensorRT-RTX: the builder of plans, its failures, and the opener of what it built.

Both have one API. What its releases differ in is in `vendor.py` alone. Functions take the vendor's module as `trt`.
"""
