"""The installation, and who calls."""

from __future__ import annotations

from datetime import UTC, datetime

from lathe.registry.v1 import info_service_pb2 as pb
from lathe.registry.v1.model_service_pb2 import MODEL_FORMAT_ONNX
from lathe.type.v1.access_pb2 import ROLE_RELEASER, ROLE_VIEWER

from services.platform.access import Access, Permit, Role, enter
from services.platform.identity import Caller, Credential, Proof, become
from services.platform.settings import Settings
from services.process.composition import Platform
from services.registry.info import Info
from tests.contract.registry.conftest import Registry


async def test_the_installation_is_described(registry: Registry) -> None:
    info = await registry.info.GetInfo(pb.GetInfoRequest())
    assert info.version
    assert info.authentication == pb.AUTHENTICATION_OPEN
    kinds = {store.store: store.kind for store in info.stores}
    assert kinds["database"].startswith("PostgreSQL 1")
    assert kinds["bus"].startswith("NATS 2.")
    serving = {service.service: service.serving for service in info.services}
    # Here are the registry and the template service alone.
    assert (serving["registry"], serving["template"], serving["quantizer"]) == (True, True, False)
    assert {"onnxruntime", "openvino"} <= set(info.runtimes)
    assert MODEL_FORMAT_ONNX in info.model_formats
    assert (info.limits.max_message_bytes, info.limits.max_page_size) == (4 << 20, 1000)


async def test_without_authentication_everybody_may_do_everything(registry: Registry) -> None:
    me = await registry.info.WhoAmI(pb.WhoAmIRequest(), metadata=(("x-lathe-user", "ann"),))
    assert me.user == "ann"
    assert list(me.roles) == [pb.ROLE_USER, pb.ROLE_ADMIN, pb.ROLE_SERVICE]


async def test_roles_are_those_of_the_caller() -> None:
    info = Info(Platform(Settings()))
    ends = datetime(2027, 1, 31, tzinfo=UTC)
    ann = Caller("ann", Proof.USER, frozenset({"b", "a"}), credential=Credential.JWT, expires=ends)
    for caller, roles in (
        (ann, [pb.ROLE_USER]),
        (Caller("bob", Proof.USER, is_admin=True, credential=Credential.JWT), [pb.ROLE_USER, pb.ROLE_ADMIN]),
        (Caller("ann", Proof.SERVICE, credential=Credential.JWT), [pb.ROLE_USER, pb.ROLE_ADMIN, pb.ROLE_SERVICE]),
    ):
        become(caller)
        enter(Permit(Access({"projects/b": Role.VIEWER, "projects/a": Role.RELEASER}), Role.VIEWER))
        me = info.who()
        projects = [(each.project, each.role) for each in me.projects]
        assert projects == ([("projects/a", ROLE_RELEASER), ("projects/b", ROLE_VIEWER)] if caller is ann else [])
        assert (me.user, me.authentication, list(me.roles)) == (caller.user, pb.AUTHENTICATION_JWT, roles)
        assert list(me.groups) == sorted(caller.groups)
        assert me.HasField("expire_time") is (caller is ann)
    become(ann)
    assert info.who().expire_time.ToDatetime(UTC) == ends
