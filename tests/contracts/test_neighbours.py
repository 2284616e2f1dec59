"""Short convolutions and token shifts are switched by one name each; without them the contract is kept as with them."""

import dataclasses

import pytest

from assay.audit.contract.architecture import CHECKS, Check
from assay.audit.contract.models import smallest
from assay.errors import RequestError
from assay.model.accounting import count_flops, count_parameters, count_state_bytes
from assay.model.architecture import ARCHITECTURES, Architecture
from assay.model.contract import check_contract

HAVE = {
    "short_conv": ("delta-net", "gated-delta-net", "mamba2", "twin"),
    "token_shift": ("rwkv6", "rwkv7", "twin"),
}
WITHOUT = [(name, option) for option, names in HAVE.items() for name in names]
AT_ONCE = ("forms", "roles", "accounting", "declared_flops", "decoding", "dead_parameters")
"""Checks that the part has something to do with; the others are asked by the slow tests."""
ASKED = [
    pytest.param(name, option, check, id=f"{name}-{option}-{check.__name__}", marks=marks)
    for name, option in WITHOUT
    for check in CHECKS
    for marks in [[] if check.__name__ in AT_ONCE else [pytest.mark.slow]]
]


def without(name: str, option: str) -> Architecture:
    """The architecture whose smallest model lacks the part."""
    architecture = ARCHITECTURES.get(name)
    return dataclasses.replace(architecture, tiny={**architecture.tiny, option: False})


def test_the_name_is_known_where_the_part_is() -> None:
    for option, names in HAVE.items():
        assert {item.name for item in ARCHITECTURES if option in item.config.model_fields} == set(names)
        assert all(ARCHITECTURES.get(name).config().model_dump()[option] is True for name in names)


@pytest.mark.parametrize(("name", "option", "check"), ASKED)
def test_without_it_the_contract_is_kept(name: str, option: str, check: Check) -> None:
    found = check(without(name, option))
    assert found.status == "pass", found.explanation


@pytest.mark.parametrize(("name", "option"), WITHOUT)
def test_without_it_parameters_flops_and_state_are_fewer(name: str, option: str) -> None:
    check_contract(without(name, option))
    more, less = smallest(ARCHITECTURES.get(name)), smallest(without(name, option))
    assert count_parameters(less).total < count_parameters(more).total
    assert count_flops(less, 16).forward <= count_flops(more, 16).forward
    assert count_state_bytes(less, 16) < count_state_bytes(more, 16)
    parts = {"short_conv": "conv_", "token_shift": "mu"}
    gone = {key for key, _ in more.named_parameters()} - {key for key, _ in less.named_parameters()}
    assert gone
    assert all(key.split(".")[-1].startswith((parts[option], "shift_")) for key in gone)


def test_a_width_of_no_convolution_is_one_line() -> None:
    with pytest.raises(RequestError, match=r"model\.conv_width: 3 given, short_conv=false leaves it out"):
        ARCHITECTURES.get("mamba2").config.parse({"short_conv": False, "conv_width": 3})
