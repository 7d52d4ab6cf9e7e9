"""The text of phenoML events, compiled: lines of bytes to numbers, their checks, objects by falling pT, and numbers to lines of bytes.

A decimal number whose digits make a whole number up to 2^53 and whose power of ten is 22 at most is the quotient or product of two numbers that double
precision holds exactly, and so is correctly rounded; the others are left to Python's own float. A change of unit is one of the power of ten.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, cast

import numba
import numpy as np
import numpy.typing as npt

__all__ = [
    "BLANK",
    "COLLECTIONS",
    "EMPTY",
    "EXTREME_ETA",
    "EXTREME_PHI",
    "GOOD",
    "NEGATIVE",
    "NOT_FINITE",
    "NO_NUMBER",
    "SPACELIKE",
    "SYMBOLS",
    "TOO_FEW",
    "TOO_LARGE",
    "UNKNOWN",
    "WRONG_COUNT",
    "Placed",
    "Scanned",
    "place",
    "scan",
    "written",
]

Function = TypeVar("Function", bound=Callable[..., Any])
Bytes = npt.NDArray[np.uint8]
Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SYMBOLS = ("j", "b", "e-", "e+", "m-", "m+", "g")
"""What an object is called, numbered from 1; read are `a` for `g` and `mu-`, `mu+` for `m-`, `m+` too."""
COLLECTIONS = ("Jet", "Electron", "Muon", "Photon")
OF_SYMBOL = np.array([0, 0, 1, 1, 2, 2, 3])
"""The collection of each symbol."""
TAG_OF_SYMBOL = np.array([0, 1, -1, 1, -1, 1, 0])
"""Of a jet whether it is a b-jet, of a lepton its charge."""

GOOD, BLANK, TOO_FEW, EMPTY, UNKNOWN, WRONG_COUNT, NO_NUMBER = range(7)
NOT_FINITE, NEGATIVE, TOO_LARGE, EXTREME_ETA, EXTREME_PHI, SPACELIKE = range(7, 13)
"""What a line is: an event, nothing, or malformed, and why."""

POWERS = 10.0 ** np.arange(23)
"""The powers of ten that double precision holds exactly."""
EXACT = 2**53
SPLIT, TWICE = 2.0**27 + 1, 2.0**-49
"""What halves the digits of a number in double precision; the error of a sum of such halves, and of some more operations."""
MOST_DIGITS = 18
"""Digits that a whole number of 64 bits always holds."""
SHIFT = 3  # powers of ten from MeV to GeV
NEWLINE, COMMA, SEMICOLON, DOT, PLUS, MINUS, ZERO = 10, 44, 59, 46, 43, 45, 48
SPACE, TAB, RETURN = 32, 9, 13
FEWEST_DIGITS, ALL_DIGITS = 6, 9
"""Digits that single precision always keeps, and those that tell all its numbers apart."""
HALF_STEP = 6.1e-8
"""By which part of it a number of single precision may be rounded; an energy is known to this times 1 + |eta|, as pT and eta are."""
PLAIN = 15
"""Places before the point of a number that is written without a power of ten."""


class Scanned(NamedTuple):
    """Lines of text taken apart; s lines, o objects and v numbers, of which the last ones are not filled.

    status, start, end (s,): what each line is, and where in the text what is wrong with it stands; field, part (s,): the field of the line, from 1, and
    the place within that, from 0; numbered, event (s,): whether its event has a number, and which; first, first_object, objects (s,): the
    first of its values and of its objects, and how many objects; symbols (o,) of all objects; values (v,): weight, MET, its phi, and the numbers of each object of a line, one line
    after the other; starts, ends (v,): where they stand; slow (v,): which ones are left to be read.
    """

    status: npt.NDArray[np.int8]
    start: Ints
    end: Ints
    field: Ints
    part: Ints
    numbered: npt.NDArray[np.bool_]
    event: npt.NDArray[np.uint64]
    first: Ints
    first_object: Ints
    objects: Ints
    symbols: npt.NDArray[np.int8]
    values: Floats
    starts: npt.NDArray[np.int32]
    ends: npt.NDArray[np.int32]
    slow: npt.NDArray[np.bool_]


class Placed(NamedTuple):
    """The objects of good lines, by COLLECTIONS and falling pT.

    counts (4, s): objects of each event; kinematics (4, 4, o): pT, eta, phi and mass of the objects of each collection, event after event; tags (4, o): see
    TAG_OF_SYMBOL; leading (s,): the largest pT of an event, 0 without objects; unordered (s,): whether the objects of a collection were out of order.
    """

    counts: Ints
    kinematics: npt.NDArray[np.float32]
    tags: npt.NDArray[np.int8]
    leading: Floats
    unordered: npt.NDArray[np.bool_]


def compiled(function: Function) -> Function:
    """Compile a function with numba, kept between runs."""
    return cast("Function", numba.njit(cache=True, nogil=True, error_model="numpy")(function))


def scan(text: Bytes, *, leading: int, numbers: int, gev: bool) -> Scanned:
    """Take lines apart; text: bytes of whole lines, the last one ended too; leading: fields before the objects, 3 or 5; numbers: of an
    object, 3 or 4; gev: whether energies are in GeV, else in MeV. Numbers come in GeV."""
    lines = int(np.count_nonzero(text == NEWLINE))
    objects = int(np.count_nonzero(text == SEMICOLON)) + lines
    values = 3 * lines + int(np.count_nonzero(text == COMMA)) + numbers
    found = Scanned(
        status=np.zeros(lines, dtype=np.int8),
        start=np.zeros(lines, dtype=np.int64),
        end=np.zeros(lines, dtype=np.int64),
        field=np.zeros(lines, dtype=np.int64),
        part=np.zeros(lines, dtype=np.int64),
        numbered=np.zeros(lines, dtype=np.bool_),
        event=np.zeros(lines, dtype=np.uint64),
        first=np.zeros(lines, dtype=np.int64),
        first_object=np.zeros(lines, dtype=np.int64),
        objects=np.zeros(lines, dtype=np.int64),
        symbols=np.zeros(objects, dtype=np.int8),
        values=np.zeros(values),
        starts=np.zeros(values, dtype=np.int32),
        ends=np.zeros(values, dtype=np.int32),
        slow=np.zeros(values, dtype=np.bool_),
    )
    shift = 0 if gev else -SHIFT
    scan_lines(text, leading, numbers, shift, found)
    slow = np.flatnonzero(found.slow)
    place_of = slow - found.first[np.searchsorted(found.first, slow, side="right") - 1]
    energy = (place_of == 1) | ((place_of > 2) & ((place_of - 3) % numbers < numbers - 2))
    for i, is_energy in zip(slow.tolist(), energy.tolist(), strict=True):
        token = bytes(text[found.starts[i] : found.ends[i]]).decode("ascii")
        found.values[i] = with_power(token, shift if is_energy else 0)
    return found


def with_power(token: str, shift: int) -> float:
    """Return a decimal number times a power of ten, correctly rounded.

    >>> with_power("12345678901234567890.5e-3", -3)
    12345678901234.568
    """
    mantissa, _, exponent = token.lower().partition("e")
    size = int(exponent.lstrip("+-").lstrip("0")[:9] or "0")  # nine digits already say nothing or more than all
    power = -size if exponent.startswith("-") else size
    return float(f"{mantissa}e{power + shift}")


@compiled
def decimal(text: Bytes, start: int, end: int, shift: int) -> tuple[float, int]:  # noqa: C901, PLR0912 - plain loops are what numba compiles best
    """Return a number times a power of ten, and 0; 1 where it is left to Python, 2 where it is no number."""
    at, negative = start, False
    if at < end and (text[at] == MINUS or text[at] == PLUS):
        negative = text[at] == MINUS
        at += 1
    mantissa, digits, exponent, seen, beyond = 0, 0, shift, False, False
    while at < end and ZERO <= text[at] < ZERO + 10:
        seen = True
        if digits < MOST_DIGITS:
            mantissa = mantissa * 10 + (text[at] - ZERO)
            digits += 1 if mantissa > 0 else 0
        else:
            beyond = True
        at += 1
    if at < end and text[at] == DOT:
        at += 1
        while at < end and ZERO <= text[at] < ZERO + 10:
            seen = True
            if digits < MOST_DIGITS:
                mantissa = mantissa * 10 + (text[at] - ZERO)
                digits += 1 if mantissa > 0 else 0
                exponent -= 1
            else:
                beyond = True
            at += 1
    if not seen:
        return 0.0, 2
    if at < end and (text[at] == 101 or text[at] == 69):
        at += 1
        down = False
        if at < end and (text[at] == MINUS or text[at] == PLUS):
            down = text[at] == MINUS
            at += 1
        if at == end:
            return 0.0, 2
        power = 0
        while at < end and ZERO <= text[at] < ZERO + 10:
            if power < 1_000_000:
                power = power * 10 + (text[at] - ZERO)
            at += 1
        exponent += -power if down else power
    if at != end:
        return 0.0, 2
    if mantissa == 0 and not beyond:
        return -0.0 if negative else 0.0, 0
    if beyond or exponent > 22 or exponent < -22:
        return 0.0, 1
    value = float(mantissa)
    if mantissa <= EXACT:
        value = value * POWERS[exponent] if exponent >= 0 else value / POWERS[-exponent]
    else:
        value = of_two(value, float(mantissa - int(value)), exponent)
        if value == 0:
            return 0.0, 1
    return -value if negative else value, 0


@compiled
def product_error(a: float, b: float, product: float) -> float:
    """Return by how much the rounded product of two numbers is too small: exactly (Dekker 1971)."""
    c, d = SPLIT * a, SPLIT * b
    a_high, b_high = c - (c - a), d - (d - b)
    a_low, b_low = a - a_high, b - b_high
    return ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


@compiled
def of_two(high: float, low: float, power: int) -> float:
    """Return the sum of a number and a small one, times a power of ten of 22 at most, correctly rounded; 0 where twice the precision cannot tell which way."""
    if power >= 0:
        first = high * POWERS[power]
        rest = product_error(high, POWERS[power], first) + low * POWERS[power]
    else:
        first = high / POWERS[-power]
        back = first * POWERS[-power]
        rest = ((high - back) - product_error(first, POWERS[-power], back) + low) / POWERS[-power]
    margin = abs(rest) * TWICE + first * TWICE * TWICE
    up, down = first + (rest + margin), first + (rest - margin)
    return up if up == down else 0.0


@compiled
def symbol(text: Bytes, start: int, end: int) -> int:
    """Return the number of a symbol, 0 for one that is unknown."""
    size, first = end - start, text[start]
    if size == 1:
        if first == 106:
            return 1
        if first == 98:
            return 2
        return 7 if first == 103 or first == 97 else 0  # noqa: PLR1714
    last = text[end - 1]
    if last != MINUS and last != PLUS:  # noqa: PLR1714
        return 0
    plus = 1 if last == PLUS else 0
    if size == 2 and first == 101:
        return 3 + plus
    if (size == 2 and first == 109) or (size == 3 and first == 109 and text[start + 1] == 117):
        return 5 + plus
    return 0


@compiled
def scan_lines(text: Bytes, leading: int, numbers: int, shift: int, found: Scanned) -> None:  # noqa: C901, PLR0912, PLR0915
    """Fill what is found in lines of text; see `scan`."""
    line, at, n_values, n_objects = 0, 0, 0, 0
    while at < len(text):
        stop = at
        while text[stop] != NEWLINE:
            stop += 1
        following = stop + 1
        while stop > at and (text[stop - 1] == SPACE or text[stop - 1] == TAB or text[stop - 1] == RETURN):
            stop -= 1
        found.first[line], found.first_object[line] = n_values, n_objects
        values, objects = n_values, n_objects
        status = GOOD if stop > at else BLANK
        field = 0
        while status == GOOD and at < stop:
            field += 1
            end = at
            while end < stop and text[end] != SEMICOLON:
                end += 1
            origin, a, b = at, at, end
            at = end + 1
            part = 0
            if field > leading:
                b = a
                while b < end and text[b] != COMMA:
                    b += 1
            while True:  # over the numbers of a field
                last = b == end
                begin, close = a, b
                while begin < close and (text[begin] == SPACE or text[begin] == TAB):
                    begin += 1
                while close > begin and (text[close - 1] == SPACE or text[close - 1] == TAB):
                    close -= 1
                if begin == close:
                    status = EMPTY
                elif field > leading and part == 0:
                    kind = symbol(text, begin, close)
                    if kind == 0:
                        status = UNKNOWN
                    else:
                        found.symbols[objects] = kind
                        objects += 1
                elif field > leading and part > numbers:
                    status = WRONG_COUNT
                elif field <= leading - 3:
                    if field == 1:
                        number = np.uint64(0)
                        whole = close - begin <= 19
                        for i in range(begin, close):
                            if not ZERO <= text[i] < ZERO + 10:
                                whole = False
                                break
                            if whole:
                                number = number * np.uint64(10) + np.uint64(text[i] - ZERO)
                        found.numbered[line], found.event[line] = whole, number
                else:
                    energy = field == leading - 1 or (field > leading and part < numbers - 1)
                    value, how = decimal(text, begin, close, shift if energy else 0)
                    if how == 2:
                        status = NO_NUMBER
                    else:
                        found.values[values], found.slow[values] = value, how == 1
                        found.starts[values], found.ends[values] = begin, close
                        values += 1
                if status != GOOD:
                    found.start[line], found.end[line] = begin, close
                    break
                if last:
                    break
                part += 1
                a = b + 1
                b = a
                while b < end and text[b] != COMMA:
                    b += 1
            if status == GOOD and field > leading and part < numbers:
                status = WRONG_COUNT
            if status != GOOD:
                if status == WRONG_COUNT:
                    found.start[line], found.end[line] = origin, end
                found.field[line], found.part[line] = field, part
        if status == GOOD and field < leading:
            status = TOO_FEW
            found.field[line] = field
        if status == GOOD:
            found.objects[line] = objects - n_objects
            n_values, n_objects = values, objects
        else:
            found.slow[n_values:values] = False
        found.status[line] = status
        line += 1
        at = following


def place(
    found: Scanned, *, numbers: int, largest: float, largest_eta: float, largest_phi: float, rounding: float
) -> Placed:
    """Check the numbers of lines that are whole, and put the objects of good ones in order; what is wrong is entered in `found`.

    numbers: of an object, 3 or 4; largest: energy or momentum (GeV); largest_eta, largest_phi: of the absolute value; rounding: how far below pT cosh eta
    an energy may lie, as a fraction. The mass of an object without energy is 0.
    """
    lines, objects = len(found.status), int(found.objects.sum())
    made = Placed(
        np.zeros((len(COLLECTIONS), lines), dtype=np.int64),
        np.zeros((len(COLLECTIONS), 4, objects), dtype=np.float32),
        np.zeros((len(COLLECTIONS), objects), dtype=np.int8),
        np.zeros(lines),
        np.zeros(lines, dtype=np.bool_),
    )
    place_objects(found, numbers, largest, largest_eta, largest_phi, rounding, made)
    return made


@compiled
def wrong(
    values: Floats, numbers: int, largest: float, largest_eta: float, largest_phi: float, rounding: float
) -> tuple[int, int]:
    """Return what is wrong with the numbers of a line, GOOD for nothing, and the place of the number."""
    for i in range(len(values)):
        if not np.isfinite(values[i]):
            return NOT_FINITE, i
        if i == 0:
            continue
        # E, pT, eta, phi; the missing momentum is a pT, its direction a phi
        column = 2 * i - 1 if i < 3 else (i - 3) % numbers + 4 - numbers
        value = values[i]
        if column < 2:
            # a pT that single precision cannot tell from 0 is none
            if value < 0 or (i > 2 and column == 1 and np.float32(value) <= 0):
                return NEGATIVE, i
            if value > largest:
                return TOO_LARGE, i
        elif column == 2 and abs(value) > largest_eta:
            return EXTREME_ETA, i
        elif column == 3 and abs(value) > largest_phi:
            return EXTREME_PHI, i
    if numbers == 4:
        for i in range(3, len(values), 4):
            if values[i] < values[i + 1] * np.cosh(values[i + 2]) * (1 - rounding):
                return SPACELIKE, i
    return GOOD, 0


@compiled
def place_objects(
    found: Scanned, numbers: int, largest: float, largest_eta: float, largest_phi: float, rounding: float, made: Placed
) -> None:
    """Fill the objects of good lines; see `place`."""
    filled = np.zeros(4, dtype=np.int64)
    for line in range(len(found.status)):
        if found.status[line] != GOOD:
            continue
        first = found.first[line]
        values = found.values[first : first + 3 + numbers * found.objects[line]]
        status, at = wrong(values, numbers, largest, largest_eta, largest_phi, rounding)
        if status != GOOD:
            found.status[line] = status
            found.start[line], found.end[line] = found.starts[first + at], found.ends[first + at]
            found.part[line] = at
            continue
        begin = filled.copy()
        for k in range(found.objects[line]):
            kind = found.symbols[found.first_object[line] + k] - 1
            which = OF_SYMBOL[kind]
            own, tags = made.kinematics[which], made.tags[which]
            last = 3 + numbers * k + numbers - 1
            pt, eta, phi = values[last - 2], values[last - 1], values[last]
            mass = 0.0
            if numbers == 4:
                p = pt * np.cosh(eta)
                square = (values[last - 3] - p) * (values[last - 3] + p)
                mass = np.sqrt(square) if square >= 0 else -np.sqrt(-square)
            made.leading[line] = max(made.leading[line], pt)
            slot = filled[which]
            single = np.float32(pt)
            while slot > begin[which] and own[0, slot - 1] < single:
                for j in range(4):
                    own[j, slot] = own[j, slot - 1]
                tags[slot] = tags[slot - 1]
                slot -= 1
                made.unordered[line] = True
            own[0, slot], own[1, slot], own[2, slot], own[3, slot] = single, eta, phi, mass
            tags[slot] = TAG_OF_SYMBOL[kind]
            filled[which] += 1
        for which in range(4):
            made.counts[which, line] = filled[which] - begin[which]


def written(
    event: npt.NDArray[np.uint64],
    process: str,
    scalars: npt.NDArray[np.float32],
    counts: Ints,
    kinematics: npt.NDArray[np.float32],
    tags: npt.NDArray[np.int8],
    *,
    numbers: int,
) -> bytes:
    """Return events as lines of text in MeV, with 5 leading fields and 4 numbers an object, or 3 and 3.

    event (n,); process: what stands as the process of all; scalars (n, 3): weight, MET (GeV) and its phi; counts (4, n), kinematics (4, 4, m), tags (4, m):
    as of `Placed`. A number has the fewest digits, six at least, that single precision tells it by, an energy those
    that pT, eta and mass in single precision do.
    """
    name = np.frombuffer(process.encode(), dtype=np.uint8)
    size = (len(name) + 100) * len(event) + 100 * int(counts.sum())
    text = np.empty(size, dtype=np.uint8)
    end = write_lines(text, event, name, scalars, counts, kinematics, tags, numbers)
    return text[:end].tobytes()


@compiled
def shortest(value: float, error: float) -> tuple[int, int]:
    """Return the whole number and the power of ten of the decimal number with the fewest digits, six at least, that is a positive number.

    error: the part of it by which the two may differ; 0 where they have to be the same number of single precision.
    """
    single = np.float32(value)
    places = int(np.floor(np.log10(value)))
    whole, power = 0, 0
    for digits in range(FEWEST_DIGITS, ALL_DIGITS + 1):
        power = places - digits + 1
        whole = int(np.rint(scaled(value, -power)))
        back = scaled(float(whole), power)
        if abs(back - value) <= error * value if error > 0 else np.float32(back) == single:
            break
    while whole % 10 == 0 and whole > 0:
        whole //= 10
        power += 1
    return whole, power


@compiled
def scaled(value: float, power: int) -> float:
    """Return a number times a power of ten, rounded once where the power is exact, and twice or thrice beyond."""
    while power > 22:
        value *= POWERS[22]
        power -= 22
    while power < -22:
        value /= POWERS[22]
        power += 22
    times: float = value * POWERS[power] if power >= 0 else value / POWERS[-power]
    return times


@compiled
def write_whole(text: Bytes, at: int, number: np.uint64) -> int:
    """Write a whole number, and return where it ends."""
    count, rest = 1, number // np.uint64(10)
    while rest > 0:
        count += 1
        rest //= np.uint64(10)
    for i in range(at + count - 1, at - 1, -1):
        text[i] = np.uint8(ZERO) + np.uint8(number % np.uint64(10))
        number //= np.uint64(10)
    return at + count


@compiled
def write_decimal(text: Bytes, at: int, value: float, shift: int, error: float) -> int:
    """Write a number times a power of ten, and return where it ends; error: see `shortest`."""
    if value < 0:
        text[at] = MINUS
        at += 1
        value = -value
    if value == 0:
        text[at] = ZERO
        return at + 1
    whole, power = shortest(value, error)
    power += shift
    digits, rest = 1, whole // 10
    while rest > 0:
        digits += 1
        rest //= 10
    point = digits + power  # places before the point
    if 0 < point <= PLAIN:
        end = at + max(digits, point) + (1 if power < 0 else 0)
        i = end - 1
        for _ in range(power):
            text[i] = ZERO
            i -= 1
        for k in range(digits):
            if power < 0 and k == -power:
                text[i] = DOT
                i -= 1
            text[i] = ZERO + whole % 10
            whole //= 10
            i -= 1
        return end
    if -FEWEST_DIGITS < point <= 0:
        text[at], text[at + 1] = ZERO, DOT
        end = at + 2 - power
        i = end - 1
        while i > at + 1:
            text[i] = ZERO + whole % 10
            whole //= 10
            i -= 1
        return end
    at = write_whole(text, at, np.uint64(whole))
    text[at] = 101
    at += 1
    if power < 0:
        text[at] = MINUS
        at += 1
    return write_whole(text, at, np.uint64(abs(power)))


@compiled
def write_lines(
    text: Bytes,
    event: npt.NDArray[np.uint64],
    name: Bytes,
    scalars: npt.NDArray[np.float32],
    counts: Ints,
    kinematics: npt.NDArray[np.float32],
    tags: npt.NDArray[np.int8],
    numbers: int,
) -> int:
    """Fill text with lines, and return where they end; see `written`."""
    at = 0
    filled = np.zeros(4, dtype=np.int64)
    for line in range(len(event)):
        if numbers == 4:
            at = write_whole(text, at, event[line])
            text[at] = SEMICOLON
            at += 1
            for i in range(len(name)):
                text[at] = name[i]
                at += 1
            text[at] = SEMICOLON
            at += 1
        for i in range(3):
            at = write_decimal(text, at, np.float64(scalars[line, i]), SHIFT if i == 1 else 0, 0.0)
            text[at] = SEMICOLON
            at += 1
        for which in range(4):
            for k in range(filled[which], filled[which] + counts[which, line]):
                tag = tags[which, k]
                if which == 0:
                    text[at] = 98 if tag > 0 else 106
                elif which == 3:
                    text[at] = 103
                else:
                    text[at] = 101 if which == 1 else 109
                    at += 1
                    text[at] = PLUS if tag > 0 else MINUS
                at += 1
                pt, eta = np.float64(kinematics[which, 0, k]), np.float64(kinematics[which, 1, k])
                if numbers == 4:
                    mass = np.float64(kinematics[which, 3, k])
                    p = pt * np.cosh(eta)
                    square = p * p + (mass * mass if mass >= 0 else -mass * mass)
                    text[at] = COMMA
                    at = write_decimal(text, at + 1, np.sqrt(max(square, 0.0)), SHIFT, HALF_STEP * (1 + abs(eta)))
                for j in range(3):
                    text[at] = COMMA
                    at = write_decimal(text, at + 1, np.float64(kinematics[which, j, k]), SHIFT if j == 0 else 0, 0.0)
                text[at] = SEMICOLON
                at += 1
            filled[which] += counts[which, line]
        text[at - 1] = NEWLINE
    return at
