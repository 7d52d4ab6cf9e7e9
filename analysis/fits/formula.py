"""A background function that a user writes as text: checked, differentiated, and evaluated for many spectra at once.

    (1-x)**p1 * x**(-p2 - p3*log(x))        exp(-p1*x) + p2*exp(-p3*x)        (1 + tanh((m - p1)/p2)) * x**(-p3)

x = m / sqrt(s) and m (GeV) are bin centres, p1, p2, ... the shape parameters; the normalisation is always free on top and
the bin width multiplies. The text is never executed: its syntax tree is turned into a list of steps, each a sum, a product,
a power or one of `FUNCTIONS`. The steps give eta = ln f with the logarithm carried into products and powers, so that a
product of powers neither overflows nor underflows, and the first and second derivatives of eta, which are exact. A function
whose second derivatives vanish is log-linear and is fitted as the built-in ones are.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import special

from ...errors import InputError, unknown_name

__all__ = ["FUNCTIONS", "UserFunction", "is_formula", "parse_function"]

Floats = npt.NDArray[np.float64]
FUNCTIONS = ("exp", "log", "sqrt", "pow", "tanh", "erf")
ONE_ARGUMENT = {"exp": np.exp, "log": np.log, "tanh": np.tanh, "erf": special.erf}
MAX_LENGTH = 500  # characters
MAX_STEPS = 4_000


class Step(NamedTuple):
    """One operation on the results of earlier steps: a number (value), an input (name), or `op` of `args`."""

    op: str
    args: tuple[int, ...] = ()
    value: float = 0.0
    name: str = ""


@dataclass(frozen=True, repr=False)
class UserFunction:
    """A parsed formula. eta: the step that holds ln f; slopes: those of d eta / d p_i; bends: (i, j, step), i <= j, of the
    second derivatives that do not vanish."""

    text: str
    n_parameters: int
    steps: tuple[Step, ...]
    eta: int
    slopes: tuple[int, ...]
    bends: tuple[tuple[int, int, int], ...]

    def __repr__(self) -> str:
        """Return the value in a line."""
        return f"UserFunction({self.text!r}, {self.n_parameters} parameters{', log-linear' if self.log_linear else ''})"

    @property
    def log_linear(self) -> bool:
        """Tell whether ln f is linear in the parameters."""
        return not self.bends

    def evaluate(
        self, wanted: Iterable[int], centres: Floats, parameters: Floats, *, sqrt_s: float
    ) -> dict[int, Floats]:
        """Return the wanted steps, each (n, bins): centres (bins,) and sqrt_s in GeV, parameters (n, k).

        What is not defined there is NaN or infinite.
        """
        wanted = tuple(wanted)
        known: dict[int, Floats] = {}
        shape = (len(parameters), len(centres))
        with np.errstate(all="ignore"):
            for i in needed(self.steps, wanted):
                known[i] = self.result(self.steps[i], known, centres, parameters, sqrt_s)
        return {i: np.broadcast_to(known[i], shape) for i in wanted}

    def result(
        self, step: Step, known: Mapping[int, Floats], centres: Floats, parameters: Floats, sqrt_s: float
    ) -> Floats:
        """Return one step from those before it: a number, (bins,), (n, 1) or (n, bins)."""
        if step.op == "number":
            return np.asarray(step.value, dtype=np.float64)
        if step.op == "input":
            if step.name == "m":
                return centres
            return centres / sqrt_s if step.name == "x" else parameters[:, int(step.name[1:]) - 1, None]
        values = [known[a] for a in step.args]
        if step.op == "add":
            return np.asarray(values[0] + values[1])
        if step.op == "mul":
            return np.asarray(values[0] * values[1])
        if step.op == "pow":
            return power_of(values[0], values[1])
        return np.asarray(ONE_ARGUMENT[step.op](values[0]))


def power_of(base: Floats, exponent: Floats) -> Floats:
    """Return base ** exponent, the cheap way where it is a division or a root."""
    if np.ndim(exponent) == 0:
        if exponent == -1:
            return np.asarray(1.0 / base)
        if exponent == 0.5:
            return np.asarray(np.sqrt(base))
    return np.asarray(np.power(base, exponent))


@functools.cache
def needed(steps: tuple[Step, ...], wanted: tuple[int, ...]) -> tuple[int, ...]:
    """Return the steps that the wanted ones need, in order."""
    found: set[int] = set()
    waiting = list(wanted)
    while waiting:
        i = waiting.pop()
        if i not in found:
            found.add(i)
            waiting.extend(steps[i].args)
    return tuple(sorted(found))


def is_formula(family: str) -> bool:
    """Tell a formula from the name of a family: it is more than one word."""
    return not re.fullmatch(r"[A-Za-z_][\w-]*", family.strip())


@functools.cache
def parse_function(text: str) -> UserFunction:
    """Parse a formula of x or m and p1, p2, ...

    Raises InputError for text that is no formula, unknown names, numbers left out among the parameters, and no x or m.
    """
    where = f"background function {text!r}"
    if len(text) > MAX_LENGTH:
        raise InputError(f"background function of {len(text)} characters; at most {MAX_LENGTH} are read")
    tape = Tape(where)
    try:
        tree = ast.parse(text.strip(), mode="eval")
        value = tape.read(tree.body)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(f"{where} is no formula: {getattr(error, 'msg', None) or error}") from None
    used = {s.name for s in tape.steps if s.op == "input"}
    numbers = sorted(int(n[1:]) for n in used if n.startswith("p"))
    gaps = sorted(set(range(1, max(numbers, default=0))) - set(numbers))
    if gaps:
        raise InputError(f"{where}: its parameters are p1 to p{numbers[-1]}, but there is no p{gaps[0]} in it")
    if not used & {"x", "m"}:
        raise InputError(f"{where} depends on no mass: write it with x = m / sqrt(s), or with m in GeV")
    eta = tape.log(value)
    slopes = [tape.derivative(eta, f"p{i}") for i in numbers]
    for i, slope in zip(numbers, slopes, strict=True):
        if tape.steps[slope].op == "number" and tape.steps[slope].value == 0:
            raise InputError(f"{where}: p{i} has no effect")
    bends = [(i, j, tape.derivative(slopes[i], f"p{j + 1}")) for i in range(len(slopes)) for j in range(i, len(slopes))]
    zero = tape.number(0.0)
    return UserFunction(
        text, len(numbers), tuple(tape.steps), eta, tuple(slopes), tuple(b for b in bends if b[2] != zero)
    )


class Tape:
    """The steps of a formula while it is read: equal steps are one, and what is known of numbers is worked out at once."""

    def __init__(self, where: str) -> None:
        self.where = where
        self.steps: list[Step] = []
        self.index: dict[Step, int] = {}
        self.derivatives: dict[tuple[int, str], int] = {}

    def read(self, node: ast.AST) -> int:
        """Return the step of a syntax tree; refuse everything but arithmetic."""
        if isinstance(node, ast.BinOp):
            left, right = self.read(node.left), self.read(node.right)
            if isinstance(node.op, ast.Sub):
                return self.add(left, self.mul(self.number(-1.0), right))
            if isinstance(node.op, ast.Div):
                return self.mul(left, self.pow(right, self.number(-1.0)))
            build = {ast.Add: self.add, ast.Mult: self.mul, ast.Pow: self.pow}.get(type(node.op))
            if build is not None:
                return int(build(left, right))
            hint = "; a power is written **" if isinstance(node.op, ast.BitXor) else ""
            raise InputError(f"{self.where}: only + - * / ** are allowed{hint}")
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub | ast.UAdd):
            operand = self.read(node.operand)
            return operand if isinstance(node.op, ast.UAdd) else self.mul(self.number(-1.0), operand)
        if isinstance(node, ast.Constant) and isinstance(node.value, int | float) and not isinstance(node.value, bool):
            return self.number(node.value)
        if isinstance(node, ast.Name):
            return self.name(node.id)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self.call(node.func.id, node.args)
        raise InputError(
            f"{self.where}: {ast.unparse(node)!r} is neither number, name, arithmetic nor a function of them"
        )

    def name(self, name: str) -> int:
        """Return the step of x, m or a parameter."""
        if name not in {"x", "m"} and not re.fullmatch(r"p[1-9]\d?", name):
            allowed = ["x", "m", "p1", "p2", *FUNCTIONS]
            raise InputError(unknown_name("name", name, allowed, self.where) + "; parameters are p1, p2, p3, ...")
        return self.emit(Step("input", name=name))

    def call(self, function: str, arguments: list[ast.expr]) -> int:
        """Return the step of a function."""
        if function not in FUNCTIONS:
            raise InputError(unknown_name("function", function, FUNCTIONS, self.where))
        takes = 2 if function == "pow" else 1
        if len(arguments) != takes:
            raise InputError(f"{self.where}: {function} takes {takes} argument(s), found {len(arguments)}")
        steps = [self.read(a) for a in arguments]
        if function == "pow":
            return self.pow(*steps)
        return self.pow(steps[0], self.number(0.5)) if function == "sqrt" else self.apply(function, steps[0])

    def emit(self, step: Step) -> int:
        """Return the number of a step, new or known; work it out where all its arguments are numbers."""
        if step.args and all(self.steps[a].op == "number" for a in step.args):
            known = {a: np.asarray(self.steps[a].value, dtype=np.float64) for a in step.args}
            blank = UserFunction("", 0, (), 0, (), ())
            with np.errstate(all="ignore"):
                return self.number(float(blank.result(step, known, np.empty(0), np.empty((0, 0)), 1.0)))
        if step not in self.index:
            if len(self.steps) >= MAX_STEPS:
                raise InputError(f"{self.where} is too long to differentiate")
            self.index[step] = len(self.steps)
            self.steps.append(step)
        return self.index[step]

    def number(self, value: float) -> int:
        """Return the step of a number; -0 is 0."""
        try:
            value = float(value) + 0.0
        except OverflowError:
            value = np.inf
        if not np.isfinite(value):
            raise InputError(f"{self.where}: a number in it is not finite")
        return self.emit(Step("number", value=value))

    def value(self, i: int) -> float | None:
        """Return the number that a step is, None where it depends on anything."""
        return self.steps[i].value if self.steps[i].op == "number" else None

    def add(self, a: int, b: int) -> int:
        """Return the step a + b."""
        if self.value(a) == 0 or self.value(b) == 0:
            return b if self.value(a) == 0 else a
        return self.emit(Step("add", (min(a, b), max(a, b))))

    def mul(self, a: int, b: int) -> int:
        """Return the step a * b, numbers collected in front."""
        if self.value(b) is not None:
            a, b = b, a
        factor = self.value(a)
        if factor is None:
            for inner, other in ((a, b), (b, a)):
                step = self.steps[inner]
                if step.op == "mul" and self.value(step.args[0]) is not None:
                    return self.mul(step.args[0], self.mul(step.args[1], other))
            return self.emit(Step("mul", (min(a, b), max(a, b))))
        if factor in {0, 1}:
            return a if factor == 0 else b
        step = self.steps[b]
        if step.op == "mul" and self.value(step.args[0]) is not None:
            return self.mul(self.emit(Step("mul", (a, step.args[0]))), step.args[1])
        return self.emit(Step("mul", (a, b)))

    def pow(self, a: int, b: int) -> int:
        """Return the step a ** b."""
        if self.value(b) == 0:
            return self.number(1.0)
        return a if self.value(b) == 1 else self.emit(Step("pow", (a, b)))

    def apply(self, op: str, a: int) -> int:
        """Return the step of a function of one argument."""
        return self.emit(Step(op, (a,)))

    def log(self, i: int) -> int:
        """Return the step ln i, carried into products, powers and exponentials whose factors have to be positive."""
        step = self.steps[i]
        if step.op == "exp":
            return step.args[0]
        if step.op == "mul" and not (self.value(step.args[0]) or 1.0) < 0:
            return self.add(self.log(step.args[0]), self.log(step.args[1]))
        if step.op == "pow":
            exponent = self.value(step.args[1])
            if exponent is None or exponent % 2 != 0:
                return self.mul(step.args[1], self.log(step.args[0]))
        return self.apply("log", i)

    def derivative(self, i: int, name: str) -> int:
        """Return the step of d i / d name."""
        if (i, name) not in self.derivatives:
            self.derivatives[i, name] = self.differentiate(self.steps[i], i, name)
        return self.derivatives[i, name]

    def differentiate(self, step: Step, i: int, name: str) -> int:
        """Return the step of a derivative by the rules of calculus."""
        if step.op in {"number", "input"}:
            return self.number(1.0 if step.name == name else 0.0)
        d = [self.derivative(a, name) for a in step.args]
        if all(self.value(k) == 0 for k in d):
            return self.number(0.0)
        a = step.args[0]
        if step.op == "add":
            return self.add(*d)
        if step.op == "mul":
            return self.add(self.mul(d[0], step.args[1]), self.mul(a, d[1]))
        if step.op == "pow":
            b = step.args[1]
            from_base = self.mul(self.mul(b, self.pow(a, self.add(b, self.number(-1.0)))), d[0])
            from_exponent = self.mul(self.mul(i, self.apply("log", a)), d[1]) if self.value(d[1]) != 0 else d[1]
            return self.add(from_base, from_exponent)
        square = self.mul(a, a)
        outer = {
            "exp": lambda: i,
            "log": lambda: self.pow(a, self.number(-1.0)),
            "tanh": lambda: self.add(self.number(1.0), self.mul(self.number(-1.0), self.mul(i, i))),
            "erf": lambda: self.mul(
                self.number(2 / np.sqrt(np.pi)), self.apply("exp", self.mul(self.number(-1.0), square))
            ),
        }[step.op]()
        return self.mul(outer, d[0])
