"""Vector code for numba kernels, written as ordinary Python.

LLVM does not by itself turn the model's loops into good vector code. So their bodies are Python functions over
``Whole``, ``Floats`` and ``Vec``, whose operators write LLVM instructions when a kernel is compiled: such a function
runs once, at that time, and its lists and comprehensions are unrolled. ``emitted`` makes it callable in a kernel.
A ``Vec`` is LANES floats; LLVM cuts it into whatever registers the processor has.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

LANES = 8

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_VEC, _IVEC = ir.VectorType(_F32, LANES), ir.VectorType(_I32, LANES)
_FLAGS = ("contract",)  # a product and a sum may be fused; nothing else may be reordered


def _lanes(values: Iterable[int]) -> ir.Constant:
    constants = [ir.Constant(_I32, value) for value in values]
    return ir.Constant(ir.VectorType(_I32, len(constants)), constants)


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VEC, [ir.Constant(_F32, float(np.float32(value)))] * LANES)


class Whole:
    """A 64-bit integer: counts and flat indices."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder = builder
        self.value = ir.Constant(_I64, value) if isinstance(value, int) else value

    def _of(self, other: Whole | int) -> Any:
        return Whole(self.builder, other).value if isinstance(other, int) else other.value

    def __add__(self, other: Whole | int) -> Whole:
        return Whole(self.builder, self.builder.add(self.value, self._of(other)))

    def __sub__(self, other: Whole | int) -> Whole:
        return Whole(self.builder, self.builder.sub(self.value, self._of(other)))

    def __mul__(self, other: Whole | int) -> Whole:
        return Whole(self.builder, self.builder.mul(self.value, self._of(other)))

    def __floordiv__(self, other: Whole | int) -> Whole:
        """For operands that are not negative."""
        return Whole(self.builder, self.builder.udiv(self.value, self._of(other)))

    def at_most(self, other: Whole | int) -> Whole:
        smaller = self.builder.icmp_signed("<", self.value, self._of(other))
        return Whole(self.builder, self.builder.select(smaller, self.value, self._of(other)))

    def to_vec(self) -> Vec:
        return _broadcast(self.builder, self.builder.sitofp(self.value, _F32))

    def to_bits(self) -> Bits:
        """Its low 32 bits, in all lanes."""
        low = self.builder.trunc(self.value, _I32)
        first = self.builder.insert_element(ir.Constant(_IVEC, ir.Undefined), low, ir.Constant(_I32, 0))
        return Bits(self.builder, self.builder.shuffle_vector(first, first, _lanes([0] * LANES)))

    __radd__, __rmul__ = __add__, __mul__


class Mask:
    """The result of a comparison, a bit per lane."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def __and__(self, other: Mask) -> Mask:
        return Mask(self.builder, self.builder.and_(self.value, other.value))

    def __or__(self, other: Mask) -> Mask:
        return Mask(self.builder, self.builder.or_(self.value, other.value))

    def select(self, yes: Vec | float, no: Vec | float) -> Vec:
        yes, no = (x if isinstance(x, Vec) else Vec(self.builder, _constant(x)) for x in (yes, no))
        return Vec(self.builder, self.builder.select(self.value, yes.value, no.value))


class Flag:
    """A condition that holds for all lanes."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def select(self, yes: Vec, no: Vec) -> Vec:
        """Both are computed."""
        return Vec(self.builder, self.builder.select(self.value, yes.value, no.value))


class Vec:
    """LANES float32. Comparisons with NaN are false."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def _of(self, other: Vec | float) -> Any:
        return other.value if isinstance(other, Vec) else _constant(other)

    def _float(self, operation: str, a: Any, b: Any) -> Vec:
        return Vec(self.builder, getattr(self.builder, operation)(a, b, flags=_FLAGS))

    def __add__(self, other: Vec | float) -> Vec:
        return self._float("fadd", self.value, self._of(other))

    def __sub__(self, other: Vec | float) -> Vec:
        return self._float("fsub", self.value, self._of(other))

    def __rsub__(self, other: float) -> Vec:
        return self._float("fsub", self._of(other), self.value)

    def __mul__(self, other: Vec | float) -> Vec:
        return self._float("fmul", self.value, self._of(other))

    def __rtruediv__(self, other: float) -> Vec:
        return self._float("fdiv", self._of(other), self.value)

    def __neg__(self) -> Vec:
        return Vec(self.builder, self.builder.fneg(self.value))

    def _compare(self, how: str, other: Vec | float) -> Mask:
        return Mask(self.builder, self.builder.fcmp_ordered(how, self.value, self._of(other)))

    def __lt__(self, other: Vec | float) -> Mask:
        return self._compare("<", other)

    def __le__(self, other: Vec | float) -> Mask:
        return self._compare("<=", other)

    def __gt__(self, other: Vec | float) -> Mask:
        return self._compare(">", other)

    def __ge__(self, other: Vec | float) -> Mask:
        return self._compare(">=", other)

    def at_least(self, low: Vec | float) -> Vec:
        """The larger; NaN stays NaN."""
        return (self < low).select(low, self)

    def at_most(self, high: Vec | float) -> Vec:
        """The smaller; NaN stays NaN."""
        return (self > high).select(high, self)

    def sqrt(self) -> Vec:
        function_type = ir.FunctionType(_VEC, [_VEC])
        function = cgutils.get_or_insert_function(self.builder.module, function_type, f"llvm.sqrt.v{LANES}f32")
        return Vec(self.builder, self.builder.call(function, [self.value]))

    def magnitude(self) -> Vec:
        return self.at_least(-self)

    def fraction_and_exponent(self) -> tuple[Vec, Vec]:
        """m in [1, 2) and a whole e with m * 2^e = self, for positive normal numbers."""
        bits = self.builder.bitcast(self.value, _IVEC)
        exponent = self.builder.sub(self.builder.lshr(bits, _lanes([23] * LANES)), _lanes([127] * LANES))
        fraction = self.builder.or_(self.builder.and_(bits, _lanes([0x7FFFFF] * LANES)), _lanes([127 << 23] * LANES))
        return (
            Vec(self.builder, self.builder.bitcast(fraction, _VEC)),
            Vec(self.builder, self.builder.sitofp(exponent, _VEC)),
        )

    def times_power_of_two(self, exponent: Vec) -> Vec:
        """self * 2^exponent for a whole exponent, added to self's own, which must stay that of a normal number."""
        shift = self.builder.shl(self.builder.fptosi(exponent.value, _IVEC), _lanes([23] * LANES))
        bits = self.builder.add(self.builder.bitcast(self.value, _IVEC), shift)
        return Vec(self.builder, self.builder.bitcast(bits, _VEC))

    __radd__, __rmul__ = __add__, __mul__


class Bits:
    """LANES unsigned 32-bit integers; arithmetic is modulo 2^32."""

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder, self.value = builder, value

    def __add__(self, other: Bits) -> Bits:
        return Bits(self.builder, self.builder.add(self.value, other.value))

    def __mul__(self, other: Bits | int) -> Bits:
        factor = _lanes([other] * LANES) if isinstance(other, int) else other.value
        return Bits(self.builder, self.builder.mul(self.value, factor))

    def __xor__(self, other: Bits) -> Bits:
        return Bits(self.builder, self.builder.xor(self.value, other.value))

    def __rshift__(self, count: int) -> Bits:
        return Bits(self.builder, self.builder.lshr(self.value, _lanes([count] * LANES)))

    def to_vec(self) -> Vec:
        """For values below 2^31."""
        return Vec(self.builder, self.builder.sitofp(self.value, _VEC))


class Floats:
    """A flat float32 array, by its address; no index is checked."""

    def __init__(self, builder: ir.IRBuilder, pointer: Any) -> None:
        self.builder, self.pointer = builder, pointer

    def _at(self, index: Whole | int, element: Any = _F32) -> Any:
        address = self.builder.gep(self.pointer, [Whole(self.builder, 0)._of(index)])
        return self.builder.bitcast(address, element.as_pointer())

    def load(self, index: Whole | int) -> Vec:
        """LANES consecutive floats."""
        return Vec(self.builder, self.builder.load(self._at(index, _VEC), align=4))

    def store(self, index: Whole | int, value: Vec) -> None:
        self.builder.store(value.value, self._at(index, _VEC), align=4)

    def everywhere(self, index: Whole | int) -> Vec:
        """One float, in all lanes."""
        return _broadcast(self.builder, self.builder.load(self._at(index)))

    def gather(self, first: Whole, last: Whole, stride: Whole | int, offset: Whole | int) -> Vec:
        """Column ``offset`` of rows first .. first + LANES of a table; rows after ``last`` repeat it."""
        value = ir.Constant(_VEC, ir.Undefined)
        for lane in range(LANES):
            row = (first + lane).at_most(last)
            element = self.builder.load(self._at(row * stride + offset))
            value = self.builder.insert_element(value, element, ir.Constant(_I32, lane))
        return Vec(self.builder, value)

    def scatter(self, first: Whole, stride: Whole | int, offset: Whole | int, value: Vec) -> None:
        """The reverse of :meth:`gather`; all rows must exist."""
        index = first * stride + offset
        for lane in range(LANES):
            self.builder.store(self.builder.extract_element(value.value, ir.Constant(_I32, lane)), self._at(index))
            index = index + stride

    def add_sums(self, index: Whole | int, vectors: Sequence[Vec]) -> None:
        """Adds the sums of 1 or 4 vectors' lanes to as many floats."""
        sums = _sums(self.builder, [vector.value for vector in vectors])
        address = self._at(index, sums.type)
        total = self.builder.fadd(self.builder.load(address, align=4), sums)
        self.builder.store(total, address, align=4)


class Variable:
    """A Vec that loops may change."""

    def __init__(self, builder: ir.IRBuilder, initial: Vec) -> None:
        self.builder = builder
        self.slot = cgutils.alloca_once_value(builder, initial.value)

    @property
    def value(self) -> Vec:
        return Vec(self.builder, self.builder.load(self.slot))

    def add(self, value: Vec) -> None:
        self.builder.store((self.value + value).value, self.slot)


class Code:
    """What an emitted function gets to write with."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder

    def number(self, value: float) -> Vec:
        return Vec(self.builder, _constant(value))

    def lane_numbers(self) -> Vec:
        """0, 1, 2, ..."""
        return Vec(self.builder, ir.Constant(_VEC, [ir.Constant(_F32, float(lane)) for lane in range(LANES)]))

    def lane_bits(self) -> Bits:
        """0, 1, 2, ..."""
        return Bits(self.builder, _lanes(range(LANES)))

    def zeros(self, count: int) -> list[Variable]:
        return [Variable(self.builder, self.number(0.0)) for _ in range(count)]

    @contextmanager
    def loop(self, stop: Whole | int, start: Whole | int = 0, step: int = 1) -> Iterator[Whole]:
        """The indices start, start + step ... below stop."""
        first, end = (Whole(self.builder, 0)._of(bound) for bound in (start, stop))
        with cgutils.for_range_slice(self.builder, first, end, ir.Constant(_I64, step), _I64) as (index, _):
            yield Whole(self.builder, index)

    @contextmanager
    def when(self, flag: Flag) -> Iterator[None]:
        """What follows happens only where the flag is set; it may change Variables and arrays."""
        with self.builder.if_then(flag.value):
            yield


def emitted(body: Callable[..., None]) -> Any:
    """Makes ``body(code, ...)`` a function of numba kernels, compiled once per kernel and never inlined.

    The other parameters are annotated with what they are: ``Floats`` (passed a flat contiguous float32 array),
    ``Whole``, ``Vec`` (passed one float, for all lanes) or ``Flag``.
    """
    _, *parameters = inspect.signature(body).parameters.values()
    kinds = [parameter.annotation for parameter in parameters]
    llvm_types = {"Floats": _F32.as_pointer(), "Whole": _I64, "Vec": _F32, "Flag": ir.IntType(1)}
    numba_types = {"Whole": types.intp, "Vec": types.float32, "Flag": types.boolean}
    wrappers = {"Floats": Floats, "Whole": Whole, "Vec": _broadcast, "Flag": Flag}

    def define(module: ir.Module) -> ir.Function:
        name = f"{body.__module__}.{body.__name__}"
        if name in module.globals:
            return module.globals[name]
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [llvm_types[kind] for kind in kinds]), name)
        function.linkage = "internal"
        function.attributes.add("noinline")
        builder = ir.IRBuilder(function.append_basic_block("entry"))
        body(Code(builder), *(wrappers[kind](builder, arg) for kind, arg in zip(kinds, function.args, strict=True)))
        builder.ret_void()
        return function

    def typed(typingctx: Any, *args: Any) -> Any:
        arrays = [arg for kind, arg in zip(kinds, args, strict=True) if kind == "Floats"]
        if not all(isinstance(a, types.Array) and a.dtype == types.float32 and a.layout == "C" for a in arrays):
            return None

        def codegen(context: Any, builder: Any, sig: Any, values: Any) -> Any:
            lowered = []
            for kind, type_, value in zip(kinds, sig.args, values, strict=True):
                if kind == "Floats":
                    value = context.make_array(type_)(context, builder, value).data
                lowered.append(value)
            builder.call(define(builder.module), lowered)
            return context.get_dummy_value()

        return types.none(*(numba_types.get(kind, arg) for kind, arg in zip(kinds, args, strict=True))), codegen

    names = ["typingctx", *(parameter.name for parameter in parameters)]
    positional = inspect.Parameter.POSITIONAL_OR_KEYWORD
    typed.__signature__ = inspect.Signature([inspect.Parameter(n, positional) for n in names])  # type: ignore[attr-defined]
    typed.__name__, typed.__doc__ = body.__name__, body.__doc__
    return intrinsic(typed)


def _broadcast(builder: ir.IRBuilder, scalar: Any) -> Vec:
    """The scalar in every lane."""
    undefined = ir.Constant(_VEC, ir.Undefined)
    first = builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
    return Vec(builder, builder.shuffle_vector(first, undefined, _lanes([0] * LANES)))


def _sums(builder: ir.IRBuilder, vectors: list[Any]) -> Any:
    """The sums of 1 or 4 vectors' lanes, as a vector of as many."""
    if len(vectors) == 1:
        (value,) = vectors
        while value.type.count > 1:
            half = value.type.count // 2
            parts = (builder.shuffle_vector(value, value, _lanes(range(at, at + half))) for at in (0, half))
            value = builder.fadd(*parts)
        return value

    def add_pairs(a: Any, b: Any) -> Any:
        """Of both, within halves of a register, as x86's instruction for this has it."""
        even = [lane + operand * LANES for half in (0, 4) for operand in (0, 1) for lane in (half, half + 2)]
        odd = [lane + 1 for lane in even]
        return builder.fadd(builder.shuffle_vector(a, b, _lanes(even)), builder.shuffle_vector(a, b, _lanes(odd)))

    a, b, c, d = vectors
    halves = add_pairs(add_pairs(a, b), add_pairs(c, d))
    low, high = (builder.shuffle_vector(halves, halves, _lanes(range(at, at + 4))) for at in (0, 4))
    return builder.fadd(low, high)
