try:
    from buf.validate import validate_pb2
except ImportError:
    from lathe._rules import validate_pb2

__all__ = ["validate_pb2"]
