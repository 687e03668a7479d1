"""Rows of the tables over captures, from the commands' reports, and their columns."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from adcgs.evaluation.tables import Column, Value
from adcgs.evenly import evenly

Row = dict[str, Value]
QUALITY = [
    Column("scene", "scene"),
    Column("size", "size"),
    Column("views", "views"),
    Column("psnr", "PSNR", ".2f"),
    Column("psnr_dynamic", "PSNR moving", ".2f"),
    Column("psnr_foreground", "PSNR foregr.", ".2f"),
    Column("psnr_color", "PSNR, colours fitted", ".2f"),
    Column("ssim", "SSIM", ".4f"),
    Column("ms_ssim", "MS-SSIM", ".4f"),
    Column("lpips", "LPIPS", ".4f"),
    Column("st_lpips", "ST-LPIPS", ".4f"),
    Column("psnr_model", "PSNR in memory", ".2f"),
    Column("psnr_loss", "lost by coding", ".3f"),
    Column("psnr_rounding", "lost by rounding", ".2f"),
    Column("fps", "fps", ".1f"),
]
BYTES = [
    Column("scene", "scene"),
    Column("bytes", "bytes", ",.0f"),
    Column("positions", "positions", ",.0f"),
    Column("f_v", "f_v + hyper", ",.0f"),
    Column("f_g", "f_g", ",.0f"),
    Column("sigma", "Sigma", ",.0f"),
    Column("color", "C", ",.0f"),
    Column("networks", "networks", ",.0f"),
    Column("rest", "cameras, header", ",.0f"),
    Column("anchors", "anchors", ",.0f"),
    Column("bits_per_coefficient", "bits/coeff.", ".2f"),
    Column("minutes", "train min", ".1f"),
    Column("iterations", "steps", ",.0f"),
]
SECTIONS = {
    "positions": ("positions",),
    "f_v": ("f_v", "hyper"),
    "f_g": ("f_g",),
    "sigma": ("sigma",),
    "color": ("color",),
    "networks": ("networks", "entropy", "view_colors"),
}
MODEL_VIEWS = 20  # adcgs-encode measures its model in memory on at most so many, evenly spread


def make_row(
    name: str, report: Mapping[str, Any], sizes: Mapping[str, Any], scores: Mapping[str, Any], split: str = "test"
) -> dict[str, Value]:
    """A table row from the commands' reports.

    Args:
        split: of the views that were asked for. The encoder measures its model on "test" alone (as which a capture
            without test views counts its validation views); beside others its numbers would mean something else.
    """
    row: dict[str, Value] = {
        "scene": name,
        "size": f"{scores['width']}x{scores['height']}",
        "views": f"{len(scores['views'])} {scores['split']}",
        **scores["mean"],
        "bytes": scores["bytes"],
        **component_bytes(sizes["components"]),
        "anchors": sizes["anchors"],
        "bits_per_coefficient": bits_per_coefficient(sizes),
        **{key: report.get(key) for key in ("minutes", "iterations")},
    }
    if split != "test":
        return row
    row["psnr_model"] = report.get("psnr_model")
    if report.get("psnr_model") is not None:
        same = [scores["views"][i]["psnr"] for i in evenly(len(scores["views"]), MODEL_VIEWS)]
        row["psnr_loss"] = report["psnr_model"] - sum(same) / len(same)
    if report.get("psnr_model") is not None and report.get("psnr_unrounded") is not None:
        row["psnr_rounding"] = report["psnr_unrounded"] - report["psnr_model"]
    return row


def component_bytes(components: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    """Bytes of each of :data:`SECTIONS`, and the rest."""
    totals = dict.fromkeys([*SECTIONS, "rest"], 0)
    for component in components:
        family = component["name"].split(".")[0]
        family = "f_g" if family.startswith("f_g_") else family
        key = next((k for k, names in SECTIONS.items() if family in names), "rest")
        totals[key] += component["bytes"]
    return totals


def bits_per_coefficient(sizes: Mapping[str, Any]) -> float:
    """Bits of f_v, f_g, Sigma and C, the hyperprior's included, over the number of those coefficients."""
    coded = [c for c in sizes["components"] if c["coefficients"] and c["name"] != "positions"]
    coefficients = sum(c["coefficients"] for c in coded if c["name"] != "hyper")
    return 8 * sum(c["bytes"] for c in coded) / (sizes["anchors"] * coefficients)
