"""Frozen, validated options of the solver, with named presets and a JSON round trip."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from splic_ext.common.checks import Channels, check_bool, check_integer, check_number, shortened
from splic_ext.common.notebook import html_table

__all__ = [
    "PRESETS",
    "Algorithm",
    "Channels",
    "GradientStep",
    "SolverOptions",
    "Start",
    "TVGradient",
]

Algorithm = Literal["auto", "fused", "tiled", "cusolver"]
GradientStep = Literal["srf", "literal"]
TVGradient = Literal["exact", "forward"]
Start = Literal["zero", "image", "mean"]

#: Largest height or width that the solvers take, in pixels.
MAX_SIDE = 512


@dataclass(frozen=True, kw_only=True)
class SolverOptions:
    r"""Everything that decides what :func:`splic_ext.complete` computes, besides image and mask.

    One pass over a matrix :math:`X` with anchors :math:`A = M \odot X` descends on

    .. math:: F_\delta(X) + \lambda \, C(X), \qquad
              F_\delta(X) = \min(m, n) - \sum_k e^{-\sigma_k(X)^2 / 2 \delta^2},

    a smoothed rank plus half the sum of squared forward differences (a total-variation term),
    keeps only the leading singular triplets, and resets the anchors after every step ([1]_,
    Algorithm 1).

    Parameters
    ----------
    rank : int, float or None, default None
        Number r of singular triplets kept; smaller -> smoother. A float in (0, 1) is a share of
        min(H, W), rounded down, at least 1. ``None`` means ``max(1, min(H, W) // 4)``, the paper's
        R / 4.
    tv_weight : float, default 0.02
        The paper's lambda (>= 0), weight of the total-variation term; larger -> smoother.
    start : {"zero", "image", "mean"}, default "zero"
        Where the target pixels of the first iterate are: at 0 (Algorithm 1, line 1), or at their
        values in the batch (in the second pass, those that the first one left). With ``"image"``
        every pixel of the batch counts, those that a mask hides too. With ``"mean"`` they are at a
        mean: with the first mask, of the anchors around them; with each further one, of the
        completions so far. A few iterations with a small `first_delta` will then do.
    first_delta : float, default 1.0
        First delta, in (0, 1], as a share of the largest singular value of the first iterate; 1 is
        that of Algorithm 1. Of use with another `start`, where the iterate is near its end.
    delta_decay : float, default 0.45
        The paper's rho, in (0, 1]: delta is multiplied by it after every outer loop; larger ->
        slower, more gradual rank reduction.
    step_size : float, default 0.5
        The paper's mu (>= 0), step of the gradient descent.
    inner_iterations : int, default 7
        Iterations between two changes of delta (Algorithm 1, line 3).
    max_iterations : int, default 70
        Most iterations of one pass; the last outer loop is cut short if it does not divide.
    tolerance : float, default 1e-6
        The paper's epsilon (>= 0) in units of the data range: after an outer loop a matrix stops
        once :math:`\|X_t - X_{t-1}\|_F / (m n) \le \epsilon`. 0 never stops early.
    anchor_fraction : float, default 0.5
        Probability, in [0, 1], that a pixel is an anchor in a mask that the library draws.
    alternate : bool, default True
        Run a second pass on the result of the first with the complementary mask, so that every
        pixel is re-estimated once ([1]_, section 3.4). ``False`` with a given mask is inpainting.
    empty_value : float or None, default None
        Value, in [0, 1] in units of the data range, of all pixels of a matrix without one anchor in
        a pass. ``None`` leaves the matrix as it is. With a value, ``alternate=False``,
        ``start="zero"`` and a given mask, nothing of a pixel that the mask hides can reach the
        result.
    n_masks : int, default 1
        Return the mean of that many completions, each with a mask stream of its own.
    channels : {"stacked", "separate"}, default "stacked"
        Stack the C channels into one (C H, W) matrix with a mask bit for every entry, or complete
        each channel as an (H, W) matrix of its own with one mask for all channels of an image.
    gradient_step : {"srf", "literal"}, default "srf"
        Scale of the rank gradient: ``"srf"`` steps by mu delta^2 along eq. (9), as the smoothed
        rank function method does, which makes the result equivariant to the pixel scale;
        ``"literal"`` is line 8 of Algorithm 1 as printed, on data scaled to [0, 1].
    tv_gradient : {"exact", "forward"}, default "exact"
        ``"exact"`` is the gradient of eq. (6) (four neighbours); ``"forward"`` is eq. (10) as
        printed (two neighbours).
    algorithm : {"auto", "fused", "tiled", "cusolver"}, default "auto"
        How the solver decomposes, where its back end knows several ways; results differ by
        rounding. Of ``"cuda"``: ``"fused"`` keeps a whole completion in one kernel; ``"tiled"``
        shares each matrix out over many multiprocessors, step by step; ``"cusolver"`` has NVIDIA's
        library decompose batches of matrices; ``"auto"`` is the first where a matrix fits the fast
        memory of a multiprocessor, else the second. Others know ``"auto"`` alone.

    Raises
    ------
    TypeError
        A value of the wrong kind, or an unknown field in :meth:`from_dict`.
    ValueError
        A value out of its range.

    Notes
    -----
    *Thread safety*: immutable, hence safe to share.

    References
    ----------
    .. [1] Z. Zhao, H. Wang, H. Sun, Z. He, "Structure-Preserving Progressive Low-rank Image
       Completion for Defending Adversarial Attacks", arXiv:2103.02781, 2021.

    Examples
    --------
    >>> options = SolverOptions(tv_weight=0.1, n_masks=4)
    >>> options
    SolverOptions.preset('paper', tv_weight=0.1, n_masks=4)
    >>> SolverOptions.from_json(options.to_json()) == options
    True
    >>> options.replace(n_masks=1)
    SolverOptions.preset('paper', tv_weight=0.1)
    """

    rank: int | float | None = None
    tv_weight: float = 0.02
    start: Start = "zero"
    first_delta: float = 1.0
    delta_decay: float = 0.45
    step_size: float = 0.5
    inner_iterations: int = 7
    max_iterations: int = 70
    tolerance: float = 1e-6
    anchor_fraction: float = 0.5
    alternate: bool = True
    empty_value: float | None = None
    n_masks: int = 1
    channels: Channels = "stacked"
    gradient_step: GradientStep = "srf"
    tv_gradient: TVGradient = "exact"
    algorithm: Algorithm = "auto"

    def __post_init__(self) -> None:
        if isinstance(self.rank, float) and 0 < self.rank < 1:
            _set(self, "rank", float(self.rank))
        elif self.rank is not None:
            _set(self, "rank", check_integer("rank", self.rank, 1, MAX_SIDE))
        for name in ("inner_iterations", "max_iterations", "n_masks"):
            _set(self, name, check_integer(name, getattr(self, name), 1))
        for name, low, high, above in (
            ("tv_weight", 0.0, math.inf, False),
            ("first_delta", 0.0, 1.0, True),
            ("delta_decay", 0.0, 1.0, True),
            ("step_size", 0.0, math.inf, False),
            ("tolerance", 0.0, math.inf, False),
            ("anchor_fraction", 0.0, 1.0, False),
        ):
            _set(self, name, check_number(name, getattr(self, name), low, high, above=above))
        if self.empty_value is not None:
            value = check_number("empty_value", self.empty_value, 0.0, 1.0)
            _set(self, "empty_value", abs(value))  # no -0
        check_bool("alternate", self.alternate)
        for name, choices in (
            ("start", get_args(Start)),
            ("channels", get_args(Channels)),
            ("gradient_step", get_args(GradientStep)),
            ("tv_gradient", get_args(TVGradient)),
            ("algorithm", get_args(Algorithm)),
        ):
            value = getattr(self, name)
            if not isinstance(value, str) or value not in choices:
                expected = ", ".join(repr(choice) for choice in choices)
                raise ValueError(
                    f"`{name}` must be one of {expected}, got {shortened(repr(value))}"
                )
            _set(self, name, str(value))

    def __repr__(self) -> str:
        name, changed = self._nearest()
        parts = [repr(name), *(f"{key}={value!r}" for key, value in changed.items())]
        return f"SolverOptions.preset({', '.join(parts)})"

    def _nearest(self) -> tuple[str, dict[str, Any]]:
        """Return the preset with the fewest fields of other values, and these fields."""
        mine = self.to_dict()
        changes = {
            name: {key: mine[key] for key, value in preset.to_dict().items() if mine[key] != value}
            for name, preset in PRESETS.items()
        }
        return min(changes.items(), key=lambda item: len(item[1]))

    def _repr_html_(self) -> str:
        """Return a table for notebooks, which says what is changed and which preset this is."""
        rows = [("option", "value", "default")]
        for field in fields(self):
            value = getattr(self, field.name)
            same = value == field.default
            shown = f"`{value!r}`" if same else f"**{value!r}**"
            rows.append((field.name, shown, "yes" if same else f"no: `{field.default!r}`"))
        name, changed = self._nearest()
        return html_table(
            rows, caption=f'SolverOptions, {"nearest " if changed else ""}preset "{name}"'
        )

    @classmethod
    def preset(cls, name: str, **changes: Any) -> SolverOptions:
        """Return a named set of options, with some of them changed.

        Parameters
        ----------
        name : {"paper", "recommended", "photo", "holes", "refine", "ablation", "inpaint"}
            ``"paper"``: the constants printed in the paper, which are also the defaults.
            ``"recommended"``: tuned on CIFAR-10 training images against gray-box attacks, see
            ``docs/presets.md``. ``"photo"``: for large images, several times as fast; tuned on
            photographs, see there. ``"holes"``: one pass with a given mask, to fill what it hides;
            ``"refine"``: the same for images whose hidden pixels hold a smooth first guess, as
            :class:`splic_ext.fills.SPLICFill` makes it. Both were tuned on CIFAR-10 and SVHN
            training images, see ``docs/certify.md``. ``"ablation"``:
            one pass where few pixels are left, 5 to 20 %; tuned on CIFAR-10 training images, see
            ``docs/certify_pixels.md``. ``"inpaint"``: ``"refine"`` with more of the detail kept,
            for pictures; chosen on photographs, see ``docs/inpainting.md``.

        **changes
            Fields and their new values, as for :meth:`replace`.

        Raises
        ------
        ValueError
            No such preset, or a value out of its range.
        TypeError
            An unknown field, or a value of the wrong kind.

        Examples
        --------
        >>> SolverOptions.preset("paper") == SolverOptions()
        True
        >>> SolverOptions.preset("recommended", n_masks=8).tv_weight
        0.1
        """
        try:
            found = PRESETS[name]
        except (KeyError, TypeError):
            expected = ", ".join(repr(key) for key in PRESETS)
            raise ValueError(
                f"preset name must be one of {expected}, got {shortened(repr(name))}; choose one"
            ) from None
        return found.replace(**changes) if changes else found

    def replace(self, **changes: Any) -> SolverOptions:
        """Return a copy with some fields changed; validated like the constructor.

        Parameters
        ----------
        **changes
            Fields and their new values.

        Returns
        -------
        SolverOptions

        Raises
        ------
        TypeError, ValueError
            As the constructor; a field that does not exist is a TypeError.

        Examples
        --------
        >>> SolverOptions(rank=5).replace(n_masks=4)
        SolverOptions.preset('paper', rank=5, n_masks=4)
        """
        return replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Return all fields, defaults included, as plain Python values.

        Returns
        -------
        dict
            Name of each field -> its value: int, float, bool, str or None.

        Examples
        --------
        >>> options = SolverOptions(n_masks=4).to_dict()
        >>> options["n_masks"], options["rank"], len(options)
        (4, None, 17)
        """
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> SolverOptions:
        """Build options from a mapping; a missing field keeps its default.

        Parameters
        ----------
        values : mapping of str to value
            As :meth:`to_dict` returns it, or a part of it. It may also have `preset`, the name of
            a preset, whose values the missing fields then have.

        Returns
        -------
        SolverOptions

        Raises
        ------
        TypeError
            No mapping, a field that does not exist, or a value of the wrong kind.
        ValueError
            A value out of its range, or no such preset.

        Examples
        --------
        >>> SolverOptions.from_dict({"tv_weight": 0.1})
        SolverOptions.preset('paper', tv_weight=0.1)
        >>> SolverOptions.from_dict({"preset": "recommended", "n_masks": 2})
        SolverOptions.preset('recommended', n_masks=2)
        """
        if not isinstance(values, Mapping):
            raise TypeError(
                "solver options must be a mapping of names to values, got "
                f"{type(values).__name__}; pass what to_dict() returned"
            )
        changes = dict(values)
        preset = changes.pop("preset", "paper")
        known = {field.name for field in fields(cls)}
        unknown = sorted(set(changes) - known, key=str)
        if unknown:
            name = shortened(repr(unknown[0]))
            raise TypeError(f"unknown solver option {name}; known are {sorted(known)}")
        return cls.preset(preset, **changes)

    def to_json(self) -> str:
        """Return all fields as a JSON object, and the name of the nearest preset.

        Returns
        -------
        str
            One line, which :meth:`from_json` and ``splic-ext complete --options`` read. It begins
            with `preset`; all fields follow, so that it means the same where presets are others.

        Examples
        --------
        >>> SolverOptions(rank=5).to_json()[:48]
        '{"preset": "paper", "rank": 5, "tv_weight": 0.02'
        """
        return json.dumps({"preset": self._nearest()[0], **self.to_dict()})

    @classmethod
    def from_json(cls, text: str) -> SolverOptions:
        """Build options from what :meth:`to_json` wrote; a missing field keeps its default.

        Parameters
        ----------
        text : str
            A JSON object.

        Returns
        -------
        SolverOptions

        Raises
        ------
        TypeError
            Another kind of JSON value; or as in :meth:`from_dict`.
        ValueError
            No JSON (a `json.JSONDecodeError`), or a value out of its range.

        Examples
        --------
        >>> SolverOptions.from_json('{"n_masks": 4, "rank": null}')
        SolverOptions.preset('paper', n_masks=4)
        """
        try:
            values = json.loads(text)
        except RecursionError:
            raise ValueError(
                "solver options must be a JSON object, got one that is nested too deeply; pass "
                "what to_json() returned"
            ) from None
        if not isinstance(values, dict):
            raise TypeError(
                f"solver options must be a JSON object, got {type(values).__name__}; "
                "pass what to_json() returned"
            )
        return cls.from_dict(values)

    def resolve_rank(self, height: int, width: int) -> int:
        """Return the rank used on an image of that size.

        Parameters
        ----------
        height, width : int
            In pixels.

        Returns
        -------
        int
            `rank`, that share of the shorter side, or a quarter of it where `rank` is None.

        Raises
        ------
        ValueError
            `rank` exceeds ``min(height, width)``.

        Examples
        --------
        >>> SolverOptions().resolve_rank(32, 48), SolverOptions(rank=0.375).resolve_rank(32, 48)
        (8, 12)
        """
        side = min(height, width)
        if self.rank is None:
            return max(1, side // 4)
        if isinstance(self.rank, float):
            return max(1, int(side * self.rank))
        if self.rank > side:
            raise ValueError(
                f"`rank` must be at most min(H, W) = {side} for images of {height} x {width}, "
                f"got {self.rank}; use `rank=None` for min(H, W) // 4"
            )
        return self.rank


def _set(options: SolverOptions, name: str, value: object) -> None:
    object.__setattr__(options, name, value)


#: Named option sets; see :meth:`SolverOptions.preset`.
PRESETS: dict[str, SolverOptions] = {
    "paper": SolverOptions(),
    "recommended": SolverOptions(tv_weight=0.1, max_iterations=56, tolerance=1e-8, n_masks=4),
    "photo": SolverOptions(
        rank=0.28,
        tv_weight=0.1,
        start="mean",
        first_delta=0.003,
        max_iterations=4,
        tolerance=0.0,
        n_masks=4,
    ),
    "holes": SolverOptions(rank=0.375, tv_weight=0.1, tolerance=0.0, alternate=False),
    "refine": SolverOptions(
        rank=0.375,
        start="image",
        first_delta=0.05,
        inner_iterations=1,
        max_iterations=7,
        tolerance=0.0,
        alternate=False,
    ),
    "ablation": SolverOptions(tv_weight=0.5, max_iterations=105, tolerance=0.0, alternate=False),
    "inpaint": SolverOptions(
        rank=0.8,
        tv_weight=0.1,
        start="image",
        first_delta=0.05,
        inner_iterations=1,
        max_iterations=7,
        tolerance=0.0,
        alternate=False,
    ),
}
