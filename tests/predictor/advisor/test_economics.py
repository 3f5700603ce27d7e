"""Costs: hand-worked, overridable, with a source for every price."""

from __future__ import annotations

import math
import re

import pytest

from roofcast.data import catalogue
from roofcast.data.errors import BadRequest, UnknownName
from roofcast.data.prices import KINDS, prices
from roofcast.predictor.advisor import Economics

OUTPUT = {"": 1000.0, "_lo": 800.0, "_hi": 1250.0}


def test_owning_costs_amortisation_other_costs_and_power_and_a_part_its_share() -> None:
    # 280,000 x (1/4 + 0.1) / 8766 h = 11.179; 14.3 kW x 1.3 x 0.08 = 1.487 USD per hour.
    assert Economics().per_hour("hgx-b200") == pytest.approx(11.179 + 1.487, abs=2e-3)
    assert Economics().per_hour("hgx-b200", 0.5) == pytest.approx((11.179 + 1.487) / 2, abs=2e-3)


def test_tokens_cost_the_hour_over_what_it_yields() -> None:
    # 8 GPUs x 6.41 = 51.28 USD/h; 1,000 tok/s are 3.6 million tokens per hour.
    cost = Economics(basis="rent").cost("hgx-b200", 1.0, OUTPUT, total_per_output=5.0)
    assert cost.usd_per_m_output == pytest.approx(51.28 / 3.6)
    assert cost.usd_per_m_total == pytest.approx(51.28 / 18.0)
    assert cost.usd_per_m_output_lo == pytest.approx(51.28 / 4.5)
    assert cost.usd_per_m_output_hi == pytest.approx(51.28 / 2.88)
    assert cost.usd_per_tok_s == pytest.approx(280.0)
    # 14.3 kW x 1.3 at the meter.
    assert cost.tokens_per_joule == pytest.approx(1000.0 / 18590.0)


def test_owning_breaks_even_where_its_hour_costs_as_much_as_renting_the_hours_used() -> None:
    owned = Economics().cost("hgx-b200", 1.0, OUTPUT, 2.0)
    share = owned.break_even_utilisation
    own, rented = (
        Economics(utilisation=share, basis=basis).cost("hgx-b200", 1.0, OUTPUT, 2.0).usd_per_m_output
        for basis in ("own", "rent")
    )
    assert own == pytest.approx(rented) == pytest.approx(owned.usd_per_m_output / share)


def test_a_price_of_ones_own_replaces_the_catalogues_or_its_absence() -> None:
    assert math.isnan(Economics().per_hour("mi355x-8x"))
    assert Economics(purchase_usd={"dgx-b200": 1e5}).purchase("hgx-b200") == 1e5
    assert Economics(basis="rent", usd_per_gpu_hour={"hgx-b200": 2.0}).per_hour("hgx-b200") == 16.0


def test_owning_comes_near_the_cost_model_of_others() -> None:
    # The ownership rows are SemiAnalysis's, of a large cloud (low) and a smaller one (high).
    for row in (p for p in prices() if p.kind == "ownership" and p.platform in ("hgx-h100", "hgx-b200")):
        ours = Economics().per_hour(row.platform) / catalogue.platform(row.platform).num_gpus
        assert 0.8 * row.low < ours < 1.2 * row.high


@pytest.mark.parametrize(
    "wrong",
    [
        {"basis": "lease"}, {"amortisation_years": 0}, {"pue": 0.9}, {"utilisation": 1.5},
        {"other_share": -0.1}, {"purchase_usd": {"hgx-b200": -1.0}}, {"purchase_usd": {"hgx-b2000": 1.0}},
    ],
)  # fmt: skip
def test_assumptions_out_of_range_and_unknown_platforms_are_refused(wrong: dict[str, object]) -> None:
    with pytest.raises((BadRequest, UnknownName)):
        Economics(**wrong)  # type: ignore[arg-type]


def test_every_price_names_its_platform_its_kind_its_range_its_date_and_its_source() -> None:
    for row in prices():
        assert row.platform in catalogue.platforms()
        assert row.kind in KINDS
        assert 0 < row.low <= row.usd <= row.high
        assert row.source
        assert re.fullmatch(r"20\d\d(-\d\d)?|undated", row.date)
