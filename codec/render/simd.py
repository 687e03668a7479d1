"""A float vector type for numba: what LLVM won't vectorise by itself is written with it, a register at a time.

A ``Vec`` is an LLVM ``<LANES x float>``, a ``Mask`` its comparison result. Neither exists in Python; they live
inside jitted functions only. LLVM cuts the vectors into whatever registers the processor has: one or two AVX
registers, pairs of 128-bit ones on SSE2 and NEON, scalars elsewhere. Results do not depend on the width, except
where lanes are summed.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.core.datamodel import register_default
from numba.core.datamodel.models import PrimitiveModel
from numba.core.imputils import lower_builtin
from numba.core.typing.templates import AbstractTemplate, infer_global, signature
from numba.extending import intrinsic

LANES = 8

_F32, _I32, _I1 = ir.FloatType(), ir.IntType(32), ir.IntType(1)
_VEC, _IVEC, _BITS = (ir.VectorType(element, LANES) for element in (_F32, _I32, _I1))


class VecType(types.Type):
    """LANES float32."""

    def __init__(self) -> None:
        super().__init__(name=f"f32x{LANES}")


class MaskType(types.Type):
    """LANES booleans."""

    def __init__(self) -> None:
        super().__init__(name=f"i1x{LANES}")


vec_t, mask_t = VecType(), MaskType()


@register_default(VecType)
class _VecModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: VecType) -> None:
        super().__init__(dmm, fe_type, _VEC)


@register_default(MaskType)
class _MaskModel(PrimitiveModel):  # type: ignore[misc]
    def __init__(self, dmm: Any, fe_type: MaskType) -> None:
        super().__init__(dmm, fe_type, _BITS)


def _operator(op: Callable[..., Any], operand: Any, result: Any, emit: Callable[..., Any]) -> None:
    """Gives ``operand op operand`` a type and a lowering."""

    class Template(AbstractTemplate):  # type: ignore[misc]
        def generic(self, args: Any, kws: Any) -> Any:
            if len(args) == 2 and all(argument == operand for argument in args):
                return signature(result, operand, operand)
            return None

    infer_global(op)(Template)

    @lower_builtin(op, type(operand), type(operand))
    def _lower(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return emit(builder, *args)


_operator(operator.add, vec_t, vec_t, lambda builder, a, b: builder.fadd(a, b))
_operator(operator.sub, vec_t, vec_t, lambda builder, a, b: builder.fsub(a, b))
_operator(operator.mul, vec_t, vec_t, lambda builder, a, b: builder.fmul(a, b))
_operator(operator.truediv, vec_t, vec_t, lambda builder, a, b: builder.fdiv(a, b))
_operator(operator.lt, vec_t, mask_t, lambda builder, a, b: builder.fcmp_ordered("<", a, b))
_operator(operator.le, vec_t, mask_t, lambda builder, a, b: builder.fcmp_ordered("<=", a, b))
_operator(operator.gt, vec_t, mask_t, lambda builder, a, b: builder.fcmp_ordered(">", a, b))
_operator(operator.ge, vec_t, mask_t, lambda builder, a, b: builder.fcmp_ordered(">=", a, b))
_operator(operator.and_, mask_t, mask_t, lambda builder, a, b: builder.and_(a, b))
_operator(operator.or_, mask_t, mask_t, lambda builder, a, b: builder.or_(a, b))


def _constant(value: float) -> ir.Constant:
    return ir.Constant(_VEC, [ir.Constant(_F32, float(np.float32(value)))] * LANES)


def _int_constant(value: int) -> ir.Constant:
    return ir.Constant(_IVEC, [ir.Constant(_I32, value)] * LANES)


def _broadcast(builder: Any, scalar: Any) -> Any:
    """The scalar in every lane."""
    first = builder.insert_element(ir.Constant(_VEC, ir.Undefined), scalar, ir.Constant(_I32, 0))
    zeros = ir.Constant(_IVEC, [ir.Constant(_I32, 0)] * LANES)
    return builder.shuffle_vector(first, ir.Constant(_VEC, ir.Undefined), zeros)


def _call(builder: Any, name: str, result: Any, *args: Any) -> Any:
    """A call of an LLVM intrinsic."""
    function_type = ir.FunctionType(result, [argument.type for argument in args])
    return builder.call(cgutils.get_or_insert_function(builder.module, function_type, name), args)


def _address(context: Any, builder: Any, array_type: Any, array: Any, index: Any) -> Any:
    """Pointer to element ``index`` of a contiguous array, no bounds check and no wrap-around."""
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(data, [index])


def _is_float_array(array: Any) -> bool:
    return isinstance(array, types.Array) and array.dtype == types.float32 and array.layout == "C"


def _sum_lanes(builder: Any, value: Any) -> Any:
    """The sum of a vector's lanes, added pairwise."""
    width = LANES
    while width > 1:
        width //= 2
        indices = [ir.Constant(_I32, lane + width if lane < width else 0) for lane in range(LANES)]
        moved = builder.shuffle_vector(value, ir.Constant(_VEC, ir.Undefined), ir.Constant(_IVEC, indices))
        value = builder.fadd(value, moved)
    return builder.extract_element(value, ir.Constant(_I32, 0))


@intrinsic
def splat(typingctx: Any, x: Any) -> Any:
    """The float, rounded to float32, in every lane."""
    if not isinstance(x, types.Float):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        scalar = args[0] if sig.args[0] == types.float32 else builder.fptrunc(args[0], _F32)
        return _broadcast(builder, scalar)

    return vec_t(x), codegen


@intrinsic
def lane_index(typingctx: Any) -> Any:
    """0, 1, 2, ... as floats."""

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return ir.Constant(_VEC, [ir.Constant(_F32, float(lane)) for lane in range(LANES)])

    return vec_t(), codegen


@intrinsic
def load(typingctx: Any, array: Any, index: Any) -> Any:
    """LANES consecutive floats of a contiguous float32 array, from flat index ``index``; unchecked."""
    if not _is_float_array(array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], *args)
        return builder.load(builder.bitcast(pointer, _VEC.as_pointer()), align=4)

    return vec_t(array, types.intp), codegen


@intrinsic
def store(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """Writes LANES consecutive floats from flat index ``index`` on; unchecked."""
    if not _is_float_array(array) or value != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], args[0], args[1])
        builder.store(args[2], builder.bitcast(pointer, _VEC.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, vec_t), codegen


@intrinsic
def at(typingctx: Any, array: Any, index: Any) -> Any:
    """One element of a contiguous array by its flat index; unchecked and without Python's negative indices."""
    if not isinstance(array, types.Array) or array.layout != "C":
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.load(_address(context, builder, sig.args[0], *args))

    return array.dtype(array, types.intp), codegen


@intrinsic
def put(typingctx: Any, array: Any, index: Any, value: Any) -> Any:
    """array[index] = value of the same type, by flat index and as unchecked as :func:`at`."""
    if not isinstance(array, types.Array) or array.layout != "C" or array.dtype != value:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        builder.store(args[2], _address(context, builder, sig.args[0], args[0], args[1]))
        return context.get_dummy_value()

    return types.none(array, types.intp, value), codegen


@intrinsic
def prefetch(typingctx: Any, array: Any, index: Any) -> Any:
    """Asks for the cache line of an element that is needed soon."""
    if not isinstance(array, types.Array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        pointer = _address(context, builder, sig.args[0], *args)
        pointer = builder.bitcast(pointer, ir.IntType(8).as_pointer())
        flags = [ir.Constant(_I32, flag) for flag in (0, 3, 1)]  # read, keep close, data
        function_type = ir.FunctionType(ir.VoidType(), [pointer.type, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, function_type, "llvm.prefetch.p0")
        builder.call(function, [pointer, *flags])
        return context.get_dummy_value()

    return types.none(array, types.intp), codegen


@intrinsic
def fma(typingctx: Any, a: Any, b: Any, c: Any) -> Any:
    """a * b + c, fused where the processor can (else two roundings), of vectors or of float32 scalars."""
    if not (a == b == c) or a not in (vec_t, types.float32):
        return None
    suffix, llvm_type = (f"v{LANES}f32", _VEC) if a == vec_t else ("f32", _F32)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, f"llvm.fmuladd.{suffix}", llvm_type, *args)

    return a(a, a, a), codegen


@intrinsic
def minimum(typingctx: Any, a: Any, b: Any) -> Any:
    """Lane by lane a < b ? a : b."""
    if not a == b == vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered("<", *args), *args)

    return vec_t(vec_t, vec_t), codegen


@intrinsic
def maximum(typingctx: Any, a: Any, b: Any) -> Any:
    """Lane by lane a > b ? a : b."""
    if not a == b == vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(builder.fcmp_ordered(">", *args), *args)

    return vec_t(vec_t, vec_t), codegen


@intrinsic
def square_root(typingctx: Any, a: Any) -> Any:
    if a != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, f"llvm.sqrt.v{LANES}f32", _VEC, *args)

    return vec_t(vec_t), codegen


@intrinsic
def floor(typingctx: Any, a: Any) -> Any:
    if a != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, f"llvm.floor.v{LANES}f32", _VEC, *args)

    return vec_t(vec_t), codegen


@intrinsic
def absolute(typingctx: Any, a: Any) -> Any:
    if a != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _call(builder, f"llvm.fabs.v{LANES}f32", _VEC, *args)

    return vec_t(vec_t), codegen


@intrinsic
def select(typingctx: Any, mask: Any, a: Any, b: Any) -> Any:
    """Lane by lane mask ? a : b."""
    if mask != mask_t or not a == b == vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return builder.select(*args)

    return vec_t(mask_t, vec_t, vec_t), codegen


@intrinsic
def any_lane(typingctx: Any, mask: Any) -> Any:
    if mask != mask_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.bitcast(args[0], ir.IntType(LANES))
        return builder.icmp_unsigned("!=", bits, ir.Constant(ir.IntType(LANES), 0))

    return types.boolean(mask_t), codegen


@intrinsic
def negative_of(typingctx: Any, a: Any) -> Any:
    """-|a|: the sign bit set."""
    if a != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.or_(builder.bitcast(args[0], _IVEC), _int_constant(-(2**31)))
        return builder.bitcast(bits, _VEC)

    return vec_t(vec_t), codegen


@intrinsic
def lane_sum(typingctx: Any, a: Any) -> Any:
    """The sum of all lanes, added pairwise."""
    if a != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return _sum_lanes(builder, args[0])

    return types.float32(vec_t), codegen


# 2^f on [-0.5, 0.5], minimax in the relative error (2.3e-7 in float32 arithmetic; found by linear programming).
EXP2_COEFFICIENTS = (1.00000007, 0.693146967, 0.240221197, 0.0555071327, 0.00967554171, 0.00132764746)


@intrinsic
def exp2(typingctx: Any, a: Any) -> Any:
    """2^a for a in [-126, 127]; outside, lanes hold garbage, which the caller masks."""
    if a != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        # Adding 1.5 * 2^23 rounds to an integer and leaves it in the low mantissa bits.
        magic = _constant(1.5 * 2**23)
        shifted = builder.fadd(args[0], magic)
        fraction = builder.fsub(args[0], builder.fsub(shifted, magic))
        exponent = builder.shl(builder.bitcast(shifted, _IVEC), _int_constant(23))
        value = _constant(EXP2_COEFFICIENTS[-1])
        for coefficient in EXP2_COEFFICIENTS[-2::-1]:
            value = _call(builder, f"llvm.fmuladd.v{LANES}f32", _VEC, value, fraction, _constant(coefficient))
        return builder.bitcast(builder.add(builder.bitcast(value, _IVEC), exponent), _VEC)

    return vec_t(vec_t), codegen


@intrinsic
def mantissa(typingctx: Any, a: Any) -> Any:
    """m in [1, 2) of a positive, normal a = m * 2^n."""
    if a != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        bits = builder.and_(builder.bitcast(args[0], _IVEC), _int_constant(0x007FFFFF))
        return builder.bitcast(builder.or_(bits, _int_constant(0x3F800000)), _VEC)

    return vec_t(vec_t), codegen


@intrinsic
def exponent(typingctx: Any, a: Any) -> Any:
    """n as a float of a positive, normal a = m * 2^n with m in [1, 2)."""
    if a != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        biased = builder.lshr(builder.bitcast(args[0], _IVEC), _int_constant(23))
        return builder.sitofp(builder.sub(biased, _int_constant(127)), _VEC)

    return vec_t(vec_t), codegen


@intrinsic
def gather(typingctx: Any, array: Any, first: Any, last: Any, stride: Any, offset: Any) -> Any:
    """array[min(first + lane, last) * stride + offset]: a column of a row-major float32 table."""
    if not _is_float_array(array):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, first, last, stride, offset = args
        value = ir.Constant(_VEC, ir.Undefined)
        for lane in range(LANES):
            row = builder.add(first, ir.Constant(first.type, lane))
            row = builder.select(builder.icmp_signed("<", row, last), row, last)
            index = builder.add(builder.mul(row, stride), offset)
            element = builder.load(_address(context, builder, sig.args[0], array, index))
            value = builder.insert_element(value, element, ir.Constant(_I32, lane))
        return value

    return vec_t(array, types.intp, types.intp, types.intp, types.intp), codegen


@intrinsic
def scatter(typingctx: Any, array: Any, first: Any, stride: Any, offset: Any, value: Any) -> Any:
    """array[(first + lane) * stride + offset] = value's lane; all LANES rows must exist."""
    if not _is_float_array(array) or value != vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, first, stride, offset, value = args
        index = builder.add(builder.mul(first, stride), offset)
        for lane in range(LANES):
            pointer = _address(context, builder, sig.args[0], array, index)
            builder.store(builder.extract_element(value, ir.Constant(_I32, lane)), pointer)
            index = builder.add(index, stride)
        return context.get_dummy_value()

    return types.none(array, types.intp, types.intp, types.intp, vec_t), codegen


def _channel_tuple(values: Any) -> bool:
    return isinstance(values, types.UniTuple) and values.dtype == vec_t


@intrinsic
def splat_channels(typingctx: Any, array: Any, index: Any, like: Any) -> Any:
    """One Vec per channel, each holding array[index + channel] in every lane; ``like`` fixes their number."""
    if not _is_float_array(array) or not isinstance(like, types.UniTuple):
        return None
    result = types.UniTuple(vec_t, like.count)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = []
        for channel in range(sig.return_type.count):
            position = builder.add(args[1], ir.Constant(args[1].type, channel))
            scalar = builder.load(_address(context, builder, sig.args[0], args[0], position))
            values.append(_broadcast(builder, scalar))
        return context.make_tuple(builder, sig.return_type, values)

    return result(array, types.intp, like), codegen


@intrinsic
def zero_channels(typingctx: Any, like: Any) -> Any:
    """One zero Vec per channel."""
    if not isinstance(like, types.UniTuple):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        return context.make_tuple(builder, sig.return_type, [_constant(0.0)] * sig.return_type.count)

    return types.UniTuple(vec_t, like.count)(like), codegen


@intrinsic
def add_channels(typingctx: Any, array: Any, index: Any, factor: Any, values: Any) -> Any:
    """array[index + channel * LANES ...] += factor * values[channel], for every channel."""
    if not _is_float_array(array) or factor != vec_t or not _channel_tuple(values):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, index, factor, values = args
        for channel in range(sig.args[3].count):
            position = builder.add(index, ir.Constant(index.type, channel * LANES))
            pointer = _address(context, builder, sig.args[0], array, position)
            pointer = builder.bitcast(pointer, _VEC.as_pointer())
            value = builder.extract_value(values, channel)
            old = builder.load(pointer, align=4)
            new = _call(builder, f"llvm.fmuladd.v{LANES}f32", _VEC, factor, value, old)
            builder.store(new, pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, vec_t, values), codegen


@intrinsic
def load_channels(typingctx: Any, array: Any, index: Any, like: Any) -> Any:
    """One Vec per channel, from array[index + channel * LANES ...]."""
    if not _is_float_array(array) or not isinstance(like, types.UniTuple):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        values = []
        for channel in range(sig.return_type.count):
            position = builder.add(args[1], ir.Constant(args[1].type, channel * LANES))
            pointer = _address(context, builder, sig.args[0], args[0], position)
            values.append(builder.load(builder.bitcast(pointer, _VEC.as_pointer()), align=4))
        return context.make_tuple(builder, sig.return_type, values)

    return types.UniTuple(vec_t, like.count)(array, types.intp, like), codegen


@intrinsic
def dot_channels(typingctx: Any, a: Any, b: Any) -> Any:
    """The sum over channels of a * b."""
    if not _channel_tuple(a) or a != b:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        total = builder.fmul(builder.extract_value(args[0], 0), builder.extract_value(args[1], 0))
        for channel in range(1, sig.args[0].count):
            pair = (builder.extract_value(argument, channel) for argument in args)
            total = _call(builder, f"llvm.fmuladd.v{LANES}f32", _VEC, *pair, total)
        return total

    return vec_t(a, a), codegen


@intrinsic
def fma_channels(typingctx: Any, factor: Any, values: Any, totals: Any) -> Any:
    """factor * values[channel] + totals[channel], for every channel."""
    if factor != vec_t or not _channel_tuple(values) or values != totals:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        factor, values, totals = args
        for channel in range(sig.args[1].count):
            value, total = builder.extract_value(values, channel), builder.extract_value(totals, channel)
            total = _call(builder, f"llvm.fmuladd.v{LANES}f32", _VEC, factor, value, total)
            totals = builder.insert_value(totals, total, channel)
        return totals

    return values(vec_t, values, values), codegen


def _shuffle(builder: Any, a: Any, b: Any, indices: list[int]) -> Any:
    """Lanes of the concatenation of two vectors of one type."""
    mask = ir.Constant(ir.VectorType(_I32, len(indices)), [ir.Constant(_I32, index) for index in indices])
    return builder.shuffle_vector(a, b, mask)


@intrinsic
def store_lane_sums(typingctx: Any, array: Any, index: Any, values: Any) -> Any:
    """array[index + i] = the sum of values[i]'s lanes; zeros up to the next multiple of LANES."""
    if not _is_float_array(array) or not _channel_tuple(values):
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, index, values = args
        vectors = [builder.extract_value(values, i) for i in range(sig.args[2].count)]
        for first in range(0, len(vectors), LANES):
            level = vectors[first : first + LANES]
            level += [_constant(0.0)] * (LANES - len(level))
            width = 1
            while width < LANES:  # merge pairs, so that lane i ends up with the sum of vector i
                low = [lane + LANES * bool(lane & width) - (lane & width) for lane in range(LANES)]
                high = [lane + width for lane in low]
                level = [
                    builder.fadd(_shuffle(builder, a, b, low), _shuffle(builder, a, b, high))
                    for a, b in zip(level[::2], level[1::2], strict=True)
                ]
                width *= 2
            place = builder.add(index, ir.Constant(index.type, first))
            pointer = _address(context, builder, sig.args[0], array, place)
            builder.store(level[0], builder.bitcast(pointer, _VEC.as_pointer()), align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, values), codegen


@intrinsic
def load_rgb(typingctx: Any, array: Any, index: Any) -> Any:
    """Three Vecs from LANES interleaved triples, from flat index ``index`` on."""
    if not _is_float_array(array):
        return None
    result = types.UniTuple(vec_t, 3)

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        wide = ir.VectorType(_F32, 3 * LANES)
        pointer = builder.bitcast(_address(context, builder, sig.args[0], *args), wide.as_pointer())
        triples = builder.load(pointer, align=4)
        parts = [_shuffle(builder, triples, triples, list(range(i, 3 * LANES, 3))) for i in range(3)]
        return context.make_tuple(builder, sig.return_type, parts)

    return result(array, types.intp), codegen


@intrinsic
def store_rgb(typingctx: Any, array: Any, index: Any, red: Any, green: Any, blue: Any) -> Any:
    """Writes LANES interleaved triples from flat index ``index`` on."""
    if not _is_float_array(array) or not red == green == blue == vec_t:
        return None

    def codegen(context: Any, builder: Any, sig: Any, args: Any) -> Any:
        array, index, red, green, blue = args
        wide = ir.VectorType(_F32, 3 * LANES)
        pointer = builder.bitcast(_address(context, builder, sig.args[0], array, index), wide.as_pointer())
        both = _shuffle(builder, red, green, list(range(2 * LANES)))
        last = _shuffle(builder, blue, blue, [lane % LANES for lane in range(2 * LANES)])
        order = [(pixel, LANES + pixel, 2 * LANES + pixel)[channel] for pixel in range(LANES) for channel in range(3)]
        builder.store(_shuffle(builder, both, last, order), pointer, align=4)
        return context.get_dummy_value()

    return types.none(array, types.intp, vec_t, vec_t, vec_t), codegen


@njit
def log2(a: Any) -> Any:
    """Base-2 logarithm of positive, normal lanes, by the series of artanh; absolute error 2e-7."""
    m, n = mantissa(a), exponent(a)
    upper = m > splat(1.41421356)
    m = select(upper, m * splat(0.5), m)
    n = select(upper, n + splat(1.0), n)
    s = (m - splat(1.0)) / (m + splat(1.0))
    square = s * s
    series = fma(square, splat(2.88539008 / 9), splat(2.88539008 / 7))
    series = fma(series, square, splat(2.88539008 / 5))
    series = fma(series, square, splat(2.88539008 / 3))
    return fma(fma(series, square, splat(2.88539008)), s, n)
