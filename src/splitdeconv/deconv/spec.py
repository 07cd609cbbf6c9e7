"""The deconv (transposed convolution) as plain numbers: sizes, phases and index arithmetic.

Everything here is one axis at a time and independent of any framework. With input size ``I``, kernel ``K``, stride
``s``, dilation ``d`` and pads, output ``o`` of an axis is the sum over all taps ``k`` and inputs ``i`` with
``i·s + k·d = o + pad_begin``. Outputs with equal ``o mod s`` form a *phase*, and each phase is an ordinary stride-1
convolution of the unexpanded input. None of a phase's numbers depends on ``I``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

from splitdeconv.deconv.interpolation import Interpolation
from splitdeconv.deconv.phases import Phase, narrowest_shift

WeightName = Literal["kernel", "bias"]
Stretch = Literal["repeat", "zeros", "interpolate"]  # of a map: pixels several times, zeros between them, or blends
_AFTER = {"repeat": " after ×", "zeros": " after zeros ×", "interpolate": " after "}
MOST_PHASES = 2**14  # of an axis; spectral layers have a thousand, and beyond forms take minutes to work out


@dataclass(frozen=True)
class Axis:
    """One spatial axis of a deconv. Sizes are in pixels.

    Attributes:
        kernel, stride, dilation: at least 1; strides at most ``MOST_PHASES``.
        pad_begin, pad_end: outputs that are cut off at either end (negative values would add outputs).
        output_pad: outputs that are added at the end, computed like all others.
        in_size: input size, or None where the model leaves it open.
    """

    kernel: int
    stride: int = 1
    dilation: int = 1
    pad_begin: int = 0
    pad_end: int = 0
    output_pad: int = 0
    in_size: int | None = None

    def __post_init__(self) -> None:
        for name in ("kernel", "stride", "dilation"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, wanted at least 1")
        if self.stride > MOST_PHASES:
            raise ValueError(f"stride is {self.stride}, wanted at most {MOST_PHASES}: there is a phase for each")
        if self.in_size is not None and self.in_size < 1:
            raise ValueError(f"input size is {self.in_size}, wanted at least 1")
        if self.out_size is not None and self.out_size < 1:
            raise ValueError(f"output size is {self.out_size}, wanted at least 1 ({self.describe()})")

    @property
    def extent(self) -> int:
        """Size of the dilated kernel."""
        return (self.kernel - 1) * self.dilation + 1

    @property
    def tail(self) -> int:
        """Output size less ``(in_size − 1)·stride``; the same for every input size."""
        return self.extent + self.output_pad - self.pad_begin - self.pad_end

    @property
    def out_size(self) -> int | None:
        """Output size, or None where the input size is unknown."""
        return None if self.in_size is None else self.out_size_of(self.in_size)

    def out_size_of(self, in_size: int) -> int:
        """Output size for a given input size."""
        return (in_size - 1) * self.stride + self.tail

    def with_in_size(self, in_size: int | None) -> Axis:
        """The same axis over another input size."""
        return Axis(self.kernel, self.stride, self.dilation, self.pad_begin, self.pad_end, self.output_pad, in_size)

    @cached_property
    def full_shift(self) -> int:
        """Leading outputs that the paper's split computes and crops: the pad, and the filter's zero extension."""
        shift = self.pad_begin + -self.extent % self.stride
        return shift if shift >= 0 else shift % self.stride

    @cached_property
    def crop_shift(self) -> int:
        """Smallest number of leading outputs to compute and crop so that the phases' common window is smallest."""
        return narrowest_shift(self.phases())

    def rows(self, shift: int = 0) -> int:
        """Outputs of each phase less ``in_size``, when ``shift`` more outputs are computed at the begin."""
        return -(-(self.tail + shift) // self.stride) - 1

    def surplus(self, shift: int = 0) -> int:
        """Outputs to crop at the end, because all phases are computed at the size of the largest."""
        return (self.rows(shift) + 1) * self.stride - self.tail - shift

    def phases(self, shift: int = 0) -> tuple[Phase, ...]:
        """The ``stride`` phases of the axis, all with the same number of outputs.

        Args:
            shift: leading outputs to compute in addition, which the caller crops.
        """
        return tuple(self._phase(offset, shift) for offset in range(self.stride))

    def _phase(self, offset: int, shift: int) -> Phase:
        """The taps ``k`` with ``k·dilation ≡ reach`` modulo the stride: every ``period``-th from the first on."""
        reach = offset + self.pad_begin - shift
        common = math.gcd(self.dilation, self.stride)
        dilation, period = self.dilation // common, self.stride // common
        start, rest = divmod(reach, common)
        taps = range(start * pow(dilation, -1, period) % period, 0 if rest else self.kernel, period)
        rows = self.rows(shift)
        if not taps:
            return Phase(offset, (), dilation, 0, rows)
        first = (reach - taps[-1] * self.dilation) // self.stride
        last = (reach - taps[0] * self.dilation) // self.stride
        return Phase(offset, tuple(reversed(taps)), dilation, -first, rows + last)

    def describe(self) -> str:
        """One line for messages: kernel, stride and what differs from the defaults."""
        text = f"kernel {self.kernel}, stride {self.stride}"
        if self.dilation != 1:
            text += f", dilation {self.dilation}"
        if self.pad_begin or self.pad_end:
            text += f", pads {self.pad_begin}+{self.pad_end}"
        if self.output_pad:
            text += f", output_pad {self.output_pad}"
        return text + f", input size {'?' if self.in_size is None else self.in_size}"


@dataclass(frozen=True, slots=True)
class Quant:
    """How a deconv is quantised: types and granularity, without the values.

    Attributes:
        activation: type of input and output, such as ``uint8``.
        weight: type of the weights, such as ``int8``.
        per_channel: whether each output channel has a weight scale of its own.
        forms: ways in which the model's format writes a quantised convolution, as candidates name them; empty where
            there is only one.
    """

    activation: str
    weight: str
    per_channel: bool
    forms: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class WrittenOut:
    """How a model has a deconv that is no transposed convolution in it: as a convolution of a stretched map.

    Attributes:
        stretch: ``repeat`` where the convolution reads each pixel ``stride`` times on each axis (nearest upsampling);
            ``zeros`` where it reads ``stride − 1`` zeros between pixels; ``interpolate`` where a 1×1 convolution reads
            what ``interpolation`` makes of the map, and the deconv's axes are those of that convolution on the map.
        kernel, dilations: of the convolution, whose own stride is 1.
        beside: channels of another map that the convolution reads too (a skip connection); 0 without one.
        around: pixels of that map before and behind the stretched one on each axis; negative where it lacks some, and
            the convolution has no pads of zeros there. Empty where it is as large.
        before: rows of the convolution's kernel in front of the stretched map's own; 0 but in groups, whose channels
            keep their order. Without groups the rows of other maps come last.
        interpolation: in front of the convolution, if that is how the map is stretched.
    """

    stretch: Stretch
    kernel: tuple[int, ...]
    dilations: tuple[int, ...]
    beside: int = 0
    around: tuple[tuple[int, int], ...] = ()
    before: int = 0
    interpolation: Interpolation | None = None


@dataclass(frozen=True, slots=True)
class Deconv:
    """A transposed convolution without its weights; hashable, and the key of every cache.

    Attributes:
        axes: the spatial axes, outermost first (1 to 3).
        in_channels, out_channels: over all groups.
        groups: groups of channels that do not see each other.
        batch: batch size, or None where the model leaves it open.
        dtype: type of the arithmetic, a NumPy name (``float32``, ``bfloat16``).
        has_bias: whether a bias is added per output channel.
        quant: how it is quantised, or None.
        crop: what a crop behind the deconv cuts off at the begin and end of each axis, and the axes' pads count
            already; empty without a crop.
        diagonal: whether the model has this depthwise deconv as a dense one whose filter is zero between channels.
        separable: whether all channels share one filter, and that is exactly a product of one vector for each axis.
        written_out: how the model has it where it is no transposed convolution there, or None.
        custom: whether the model has it as an operator that its format does not define, so that few runtimes run it.
        run_time: what the model computes, or is given, when it runs; empty where it stores kernel and bias.
    """

    axes: tuple[Axis, ...]
    in_channels: int
    out_channels: int
    groups: int = 1
    batch: int | None = 1
    dtype: str = "float32"
    has_bias: bool = False
    quant: Quant | None = None
    crop: tuple[tuple[int, int], ...] = ()
    diagonal: bool = False
    separable: bool = False
    written_out: WrittenOut | None = None
    custom: bool = False
    run_time: tuple[WeightName, ...] = ()

    def __post_init__(self) -> None:
        beside = self.written_out.beside if self.written_out else 0
        for name, channels in (("in_channels", self.in_channels), ("out_channels", self.out_channels)):
            read = channels + beside if name == "in_channels" else channels
            if channels < 1 or read % self.groups:
                raise ValueError(f"{name} is {read}, wanted a positive multiple of groups = {self.groups}")

    @property
    def strides(self) -> tuple[int, ...]:
        """Stride of each axis."""
        return tuple(axis.stride for axis in self.axes)

    @property
    def kernel_shape(self) -> tuple[int, ...]:
        """Shape of the weights, ``(in_channels, out_channels // groups, *kernel)``."""
        return (self.in_channels, self.out_channels // self.groups, *(axis.kernel for axis in self.axes))

    @property
    def weights_shape(self) -> tuple[int, ...]:
        """Shape of the trained kernel, IOHW: that of the model's own convolution where the deconv is written out.

        The rows of a map beside the stretched one come last; in groups all keep their order.
        """
        if self.written_out is None:
            return self.kernel_shape
        return (self.in_channels + self.written_out.beside, self.kernel_shape[1], *self.written_out.kernel)

    @property
    def first_row(self) -> int:
        """Where the rows that meet its input begin in the model's kernel."""
        return 0 if self.written_out is None else self.written_out.before

    @property
    def in_sizes(self) -> tuple[int | None, ...]:
        """Input size of each axis."""
        return tuple(axis.in_size for axis in self.axes)

    @property
    def out_sizes(self) -> tuple[int | None, ...]:
        """Output size of each axis."""
        return self.out_sizes_of(self.in_sizes)

    def out_sizes_of(self, in_sizes: Sequence[int | None]) -> tuple[int | None, ...]:
        """Output size of each axis for other input sizes."""
        if self.written_out is not None and self.written_out.interpolation is not None:
            return self.written_out.interpolation.out_sizes(in_sizes)
        sizes = zip(self.axes, in_sizes, strict=True)
        return tuple(None if size is None else axis.out_size_of(size) for axis, size in sizes)

    def macs(self) -> int:
        """Multiply-accumulates: every input pixel meets every tap once; unknown sizes count as 1."""
        pixels = math.prod(size or 1 for size in (self.batch, *self.in_sizes))
        return pixels * math.prod(self.kernel_shape)

    def native_macs(self) -> int:
        """The same for what the model has: of a written-out deconv every output pixel meets each tap."""
        if self.written_out is None:
            return self.macs()
        outputs = math.prod(size or axis.stride for size, axis in zip(self.out_sizes, self.axes, strict=True))
        return (self.batch or 1) * outputs * math.prod(self.weights_shape)

    def zero_insert_macs(self) -> int:
        """The same for zero insertion: each tap at each output, as the paper counts its baseline (NZP)."""
        return self.macs() * math.prod(self.strides) + self.beside_macs()

    def split_macs(self) -> int:
        """The same with the filter extended to a multiple of the stride, as the paper counts its split (SD)."""
        extended = math.prod(-(-axis.kernel // axis.stride) * axis.stride for axis in self.axes)
        return self.macs() // math.prod(axis.kernel for axis in self.axes) * extended + self.beside_macs()

    def beside_macs(self) -> int:
        """Those of a map beside the stretched one, which every form has: each output pixel meets each of its taps."""
        beside = 0 if self.written_out is None else self.written_out.beside
        return self.native_macs() * beside // (self.in_channels + beside)

    def with_in_sizes(self, batch: int | None, in_sizes: Sequence[int | None]) -> Deconv:
        """The same deconv over another batch and other input sizes."""
        axes = tuple(axis.with_in_size(size) for axis, size in zip(self.axes, in_sizes, strict=True))
        return replace(self, axes=axes, batch=batch)

    def cropped(self, begin: Sequence[int], end: Sequence[int]) -> Deconv:
        """The same deconv with a crop of its output counted in its pads."""
        axes = tuple(
            replace(axis, pad_begin=axis.pad_begin + first, pad_end=axis.pad_end + last)
            for axis, first, last in zip(self.axes, begin, end, strict=True)
        )
        known = self.crop or ((0, 0),) * len(axes)
        crop = tuple((b + first, e + last) for (b, e), first, last in zip(known, begin, end, strict=True))
        return replace(self, axes=axes, crop=crop)

    @property
    def uncropped_sizes(self) -> tuple[int | None, ...]:
        """Output size of each axis before the crop."""
        crop = self.crop or ((0, 0),) * len(self.axes)
        sizes = zip(self.out_sizes, crop, strict=True)
        return tuple(None if size is None else size + begin + end for size, (begin, end) in sizes)

    def describe(self) -> str:
        """One short cell for tables: ``128→64 5×5/2 @16×16``; written out, ``128→64 3×3 after ×2 @16×16``."""
        written = self.written_out
        kernel = "×".join(str(size) for size in self.weights_shape[2:])
        stride = "×".join(str(s) for s in dict.fromkeys(self.strides))
        after = "" if written is None else _AFTER[written.stretch]
        if written is not None and (how := written.interpolation) is not None:
            after += f"{how.kind} " + ("×" if how.scales else "to ")
            stride = "×".join(f"{number:g}" for number in dict.fromkeys(how.scales or how.sizes))
        sizes = "×".join("?" if axis.in_size is None else str(axis.in_size) for axis in self.axes)
        text = f"{self.in_channels}→{self.out_channels} {kernel}{after or '/'}{stride} @{sizes}"
        if self.groups > 1:
            text += f" g{self.groups}"
        dilations = [axis.dilation for axis in self.axes] if written is None else written.dilations
        if max(dilations) > 1:
            text += f" d{'×'.join(str(dilation) for dilation in dilations)}"
        if self.run_time:
            text += f" run-time {' and '.join(self.run_time)}"
        return text
