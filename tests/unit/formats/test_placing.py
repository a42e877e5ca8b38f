from hypothesis import assume, given
from hypothesis import strategies as st

from engines.formats.pytorch.placing import fits, place

NAMES = st.sampled_from(["a", "b", "model", "net", "module", "weight", "0"])
KEYS = st.sets(st.lists(NAMES, min_size=1, max_size=4).map(".".join), min_size=1, max_size=6)
WRAPPERS = st.lists(st.sampled_from(["_orig_mod", "_fsdp_wrapped_module"]), max_size=2)


@given(KEYS, st.lists(NAMES, max_size=3), WRAPPERS, st.data())
def test_prefixes_and_wrappers_in_any_order_are_left_out(
    expected: set[str], prefix: list[str], wrappers: list[str], data: st.DataObject
) -> None:
    before = data.draw(st.permutations([*prefix, *wrappers]))
    given_keys = {".".join([*before, key]): key for key in expected}
    # A prefix may make some keys look like others of the network: then it is not told from what it is put before.
    assume(not given_keys.keys() & expected)
    assert place(given_keys, expected) == given_keys
    assert fits(given_keys, expected)


@given(KEYS, KEYS)
def test_no_two_keys_get_one_place(one: set[str], other: set[str]) -> None:
    placed = place(one, other)
    assert placed.keys() == one
    assert len(set(placed.values())) == len(one)


def test_a_network_around_the_trained_one() -> None:
    assert place(["fc.weight"], ["net.fc.weight"]) == {"fc.weight": "net.fc.weight"}
    assert place(["fc.weight"], ["net._orig_mod.fc.weight"]) == {"fc.weight": "net._orig_mod.fc.weight"}


def test_module_inside_is_left_out_only_if_it_helps() -> None:
    assert place(["a.module.w", "b.w"], ["a.w", "b.w"]) == {"a.module.w": "a.w", "b.w": "b.w"}
    assert place(["module.a.module.w"], ["a.module.w"]) == {"module.a.module.w": "a.module.w"}


def test_what_else_is_missing_or_left_over_does_not_fit() -> None:
    assert fits(["a"], ["a", "bn.num_batches_tracked"])
    assert not fits(["a"], ["a", "b"])
    assert not fits(["a", "b"], ["a"])
