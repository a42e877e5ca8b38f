try:
    from buf.validate import validate_pb2
except ImportError:
    from lathe._options import validate_pb2

try:
    from google.api import field_behavior_pb2
except ImportError:
    from lathe._options import field_behavior_pb2

try:
    from google.api import resource_pb2
except ImportError:
    from lathe._options import resource_pb2

__all__ = ["field_behavior_pb2", "resource_pb2", "validate_pb2"]
