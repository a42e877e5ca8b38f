"""Names are composed and taken apart in one way only."""

from lathe.registry.v1.model_service_pb2 import LineageKind, PackageInfo

from services.platform.words import word
from services.registry import naming


def test_the_file_name_of_a_package_is_made_of_its_fields() -> None:
    package = PackageInfo(repo="vision", package_name="digits", method="classify", version="1.2.0")
    assert naming.package_file_name(package) == "vision_digits_classify_1.2.0.tar"


def test_kinds_and_parents_are_read_from_names() -> None:
    assert naming.model_of("models/a/versions/3") == "models/a"
    assert naming.version_name("models/a", 3) == "models/a/versions/3"
    names = ["models/a/versions/3", "architectures/b", "templates/c", "conversionTasks/d", "quantizationTasks/e"]
    kinds = [word(LineageKind, naming.node_kind(name)) for name in names]
    assert kinds == ["MODEL_VERSION", "ARCHITECTURE", "TEMPLATE", "TASK", "TASK"]
