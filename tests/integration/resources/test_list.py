from __future__ import annotations

import random

import grpc
import pytest
from lathe.registry.v1.architecture_service_pb2 import Architecture
from lathe.registry.v1.model_service_pb2 import (
    MODEL_FORMAT_ONNX,
    MODEL_FORMAT_PTH,
    ListModelVersionsRequest,
    ModelVersion,
)

from services.database.pool import Database
from services.platform.errors import LatheError
from services.platform.identity import acting_as
from services.resources import kind as resource_kind
from services.resources import listing, rarity
from services.resources.listing import ListQuery
from services.resources.store import ResourceStore
from tests.integration.resources.conftest import page_of

Versions = ResourceStore[ModelVersion]
NAMES = ["ResNet-50", "resnet_18 fast", "MobileNet v2", "BERT base (uncased)", "EfficientNet-B0", "猫 detector", "ViT"]


@pytest.fixture
async def stored(versions: Versions) -> list[ModelVersion]:
    created = []
    for number in range(25):
        message = ModelVersion(
            display_name=f"{NAMES[number % len(NAMES)]}",
            format=MODEL_FORMAT_ONNX if number % 3 else MODEL_FORMAT_PTH,
            labels={"team": f"t{number % 4}", "x": "y"},
        )
        with acting_as(f"user{number % 2}"):
            created.append(await versions.create(message, parent=f"models/m{number % 5}"))
    return created


async def _pages(versions: Versions, **query: object) -> list[ModelVersion]:
    found: list[ModelVersion] = []
    token = ""
    for _ in range(100):
        page, token = await page_of(versions, ListQuery(page_token=token, **query))  # type: ignore[arg-type]
        found += page
        if not token:
            return found
    raise AssertionError("the list does not end")


@pytest.mark.parametrize("size", [1, 4, 5, 24, 25, 26, 1000])
async def test_pages_show_everything_once_newest_first(
    versions: Versions, stored: list[ModelVersion], size: int
) -> None:
    assert await _pages(versions, page_size=size) == stored[::-1]


@pytest.mark.parametrize("room", [0, 300, 1000])
async def test_large_rows_make_short_pages(
    versions: Versions, stored: list[ModelVersion], monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    monkeypatch.setattr(listing, "MAX_PAGE_BYTES", room)
    first, _ = await page_of(versions, ListQuery(page_size=20))
    assert 1 <= len(first) < 20
    assert len(first) == 1 or sum(each.ByteSize() for each in first) <= room
    assert await _pages(versions, page_size=20) == stored[::-1]


async def test_rows_that_are_too_much_to_read_at_once_make_short_pages(
    versions: Versions, stored: list[ModelVersion], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listing, "MAX_STORED_BYTES", stored[0].ByteSize() * 3)
    for query in ({}, {"search": "e"}, {"order_by": "display_name"}):
        first, _ = await page_of(versions, ListQuery(page_size=20, **query))  # type: ignore[arg-type]
        assert 1 <= len(first) <= 4
        found = await _pages(versions, page_size=20, **query)
        assert found == await _whole(versions, **query)


async def _whole(versions: Versions, **query: object) -> list[ModelVersion]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(listing, "MAX_STORED_BYTES", 1 << 30)
        return await _pages(versions, page_size=1000, **query)


async def test_a_full_view_has_the_details(architectures: ResourceStore[Architecture]) -> None:
    made = await architectures.create(Architecture(class_name="Net", source="s" * 100))
    (basic,), _ = await page_of(architectures, ListQuery())
    (full,), _ = await page_of(architectures, ListQuery(full=True))
    assert (basic.source, full) == ("", made)


async def test_a_full_view_shows_what_no_page_can_hold_without_details(
    architectures: ResourceStore[Architecture], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(resource_kind, "MAX_RESOURCE_BYTES", 1 << 30)
        large = await architectures.create(Architecture(class_name="Large", source="s" * 4_000_000, config="a: 1"))
    (shown,), _ = await page_of(architectures, ListQuery(full=True))
    assert (shown.name, shown.source, shown.config) == (large.name, "", "a: 1")


async def test_a_resource_that_no_message_can_hold_is_refused(architectures: ResourceStore[Architecture]) -> None:
    with pytest.raises(LatheError, match="Shorten its lists") as refused:
        await architectures.create(Architecture(class_name="Large", source="s" * 4_000_000))
    assert refused.value.code is grpc.StatusCode.INVALID_ARGUMENT


ORDERS = ["create_time", "display_name", "display_name desc, create_time", "name desc", "update_time asc, name desc"]


@pytest.mark.parametrize("order_by", ORDERS)
async def test_every_order_pages_alike(versions: Versions, stored: list[ModelVersion], order_by: str) -> None:
    whole = await _pages(versions, order_by=order_by, page_size=1000)
    assert await _pages(versions, order_by=order_by, page_size=3) == whole
    assert sorted(each.name for each in whole) == sorted(each.name for each in stored)


async def test_new_rows_do_not_disturb_a_list_in_progress(versions: Versions, stored: list[ModelVersion]) -> None:
    page, token = await page_of(versions, ListQuery(page_size=10))
    await versions.create(ModelVersion(display_name="new"), parent="models/m0")
    await versions.delete(stored[0].name)
    rest, _ = await page_of(versions, ListQuery(page_size=100, page_token=token))
    assert page + rest == stored[:0:-1]


async def test_filters_narrow_the_list(versions: Versions, stored: list[ModelVersion]) -> None:
    async def names(**query: object) -> list[str]:
        return [each.name for each in await _pages(versions, page_size=4, **query)]

    def expected(wanted: object) -> list[str]:
        assert callable(wanted)
        return [each.name for each in reversed(stored) if wanted(each)]

    assert await names(owner="user1") == expected(lambda v: v.owner == "user1")
    assert await names(filter="labels.team = t2 AND labels.x = y") == expected(lambda v: v.labels["team"] == "t2")
    assert await names(parent="models/m3") == expected(lambda v: v.name.startswith("models/m3/"))
    assert await names(parent="models/-") == expected(lambda v: True)
    assert await names(filter="format = PTH") == expected(lambda v: v.format == MODEL_FORMAT_PTH)
    assert await names(filter="format = (PTH OR MODEL_FORMAT_ONNX)") == expected(lambda v: True)
    assert await names(filter="-format = PTH") == expected(lambda v: v.format != MODEL_FORMAT_PTH)
    both = await names(owner="user0", parent="models/m1", filter="format = ONNX")
    assert both == expected(
        lambda v: v.owner == "user0" and v.name.startswith("models/m1/") and v.format == MODEL_FORMAT_ONNX
    )


async def test_a_request_becomes_a_query(versions: Versions, stored: list[ModelVersion]) -> None:
    request = ListModelVersionsRequest(parent="models/-", mine_only=True, page_size=100, filter="labels.team = t1")
    with acting_as("user1"):
        query = ListQuery.from_request(request)
    page, _ = await page_of(versions, query)
    assert [each.name for each in page] == [
        each.name for each in reversed(stored) if each.owner == "user1" and each.labels["team"] == "t1"
    ]


@pytest.mark.parametrize(
    ("search", "found"),
    [
        ("resnet50", {"ResNet-50"}),
        ("RESNET", {"ResNet-50", "resnet_18 fast"}),
        ("res-net 50", {"ResNet-50"}),
        ("net", {"ResNet-50", "resnet_18 fast", "MobileNet v2", "EfficientNet-B0"}),
        ("18 resnet", {"resnet_18 fast"}),
        ("uncased bert", {"BERT base (uncased)"}),
        ("猫", {"猫 detector"}),
        ("v2", {"MobileNet v2"}),
        ("v", {"MobileNet v2", "ViT"}),
        ("rezNet", {"ResNet-50", "resnet_18 fast"}),
        ("resent50", {"ResNet-50"}),
        ("mobilnet", {"MobileNet v2"}),
        ("eficientnett", {"EfficientNet-B0"}),
        ("unkased brt", set()),
        ("unkased bertt", {"BERT base (uncased)"}),
        ("zzzz", set()),
        ("%", set()),
        ("_", {"resnet_18 fast"}),
        ("' OR 1=1 --", set()),
        ("\0", set()),
    ],
)
async def test_search(
    versions: Versions, stored: list[ModelVersion], database: Database, search: str, found: set[str]
) -> None:
    page = await _pages(versions, search=search, page_size=2)
    assert {each.display_name for each in page} == found
    assert page == [each for each in reversed(stored) if each.display_name in found]
    await database.execute("ANALYZE versions")  # from now on, rare words are asked of the index
    assert await _pages(versions, search=search, page_size=2) == page


async def test_the_index_is_asked_at_once_for_what_is_rare(
    stored: list[ModelVersion], database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rarity, "FEW", 10)
    rows = len([each for each in stored if "net" in each.display_name.casefold()])
    assert rows > 10
    await database.execute("ANALYZE versions")
    for search, few in {"net": False, "net v2": True, "猫": True, "v": False, "qqqqq": True}.items():
        assert await rarity.finds_few(database, "versions", search, fuzzy=False) == few, search
    assert not await rarity.finds_few(database, "versions", "resnte", fuzzy=True)


async def test_a_row_that_cannot_be_read_is_left_out(
    versions: Versions, stored: list[ModelVersion], database: Database
) -> None:
    broken = {stored[0].name, stored[9].name, *(each.name for each in stored[20:])}
    await database.execute("UPDATE versions SET body = '\\xffff' WHERE name = ANY ($1)", list(broken))
    for size in (1, 2, 7, 25, 1000):
        found = await _pages(versions, page_size=size)
        assert [each.name for each in found] == [each.name for each in reversed(stored) if each.name not in broken]


async def test_search_finds_ids(versions: Versions, stored: list[ModelVersion]) -> None:
    assert {each.name.split("/")[1] for each in await _pages(versions, search="m3")} == {"m3"}


async def test_tokens_belong_to_their_query(versions: Versions, stored: list[ModelVersion]) -> None:
    _, token = await page_of(versions, ListQuery(page_size=2, owner="user0", search="net"))
    page, _ = await page_of(versions, ListQuery(page_size=7, owner="user0", search="net", page_token=token))
    assert page, "the size of a page may change"
    others = [
        ListQuery(page_token=token),
        ListQuery(page_token=token, owner="user1", search="net"),
        ListQuery(page_token=token, owner="user0", search="net", method="lathe.registry.v1.ListModelsRequest"),
        ListQuery(page_token=token, owner="user0", search="net", order_by="name"),
        ListQuery(page_token=token, owner="user0", search="net", filter="format = PTH"),
        ListQuery(page_token=token[:-2], owner="user0", search="net"),
        ListQuery(page_token="nonsense"),
    ]
    for query in others:
        with pytest.raises(LatheError) as caught:
            await page_of(versions, query)
        assert [field for field, _ in caught.value.fields] == ["page_token"]


@pytest.mark.parametrize(
    ("query", "field"),
    [
        (ListQuery(page_size=-1), "page_size"),
        (ListQuery(order_by="body"), "order_by"),
        (ListQuery(filter="labels.a = \0"), "filter"),
        (ListQuery(parent="models/\0"), "parent"),
        (ListQuery(filter="device = cpu"), "filter"),
    ],
)
async def test_bad_queries_are_refused(versions: Versions, query: ListQuery, field: str) -> None:
    with pytest.raises(LatheError) as caught:
        await page_of(versions, query)
    assert (caught.value.code.name, caught.value.fields[0][0]) == ("INVALID_ARGUMENT", field)


async def test_lists_leave_large_fields_out(architectures: ResourceStore[Architecture]) -> None:
    created = await architectures.create(
        Architecture(class_name="A", display_name="a", source="s" * 100_000, config="c")
    )
    [listed], token = await page_of(architectures, ListQuery())
    assert (listed.source, listed.config, token) == ("", "", "")
    assert (listed.name, listed.class_name, listed.etag) == (created.name, "A", created.etag)
    assert (await architectures.get(created.name)).source == "s" * 100_000


async def test_random_walks_meet_every_row(versions: Versions) -> None:
    order = random.Random(7)
    created = [
        await versions.create(ModelVersion(display_name=order.choice("abc")), parent="models/m") for _ in range(40)
    ]
    for _ in range(10):
        order_by = ", ".join(f"{field} {order.choice(['asc', 'desc'])}" for field in ("display_name", "update_time"))
        found = await _pages(versions, order_by=order_by, page_size=order.randint(1, 12))
        assert sorted(each.uid for each in found) == sorted(each.uid for each in created)


async def test_a_basic_view_leaves_details_out_of_rows_that_are_older_than_they(
    architectures: ResourceStore[Architecture], database: Database
) -> None:
    made = await architectures.create(Architecture(class_name="Old", source="s", config="c"))
    await database.execute("UPDATE architectures SET body = body || detail, detail = ''")
    (basic,), _ = await page_of(architectures, ListQuery())
    (full,), _ = await page_of(architectures, ListQuery(full=True))
    assert (basic.name, basic.source, basic.config, full) == (made.name, "", "", made)
