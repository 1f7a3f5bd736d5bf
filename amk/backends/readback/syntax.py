"""The syntax tree of the schedule part of a printed program.

Nodes compare by what they say and not by where they stand; parentheses leave no trace. Types are
kept as their text with single spaces (`const float*`, `amk::Worker&`).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Node:
    """`line` and `column` count from 1."""

    line: int = field(compare=False)
    column: int = field(compare=False)


# ---- expressions -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Name(Node):
    """A variable or a function: `i`, `amk::add`."""

    text: str


@dataclass(frozen=True)
class Number(Node):
    """A literal as it is spelled: `12`, `1e-05f`, `0x7fc00000u`."""

    text: str


@dataclass(frozen=True)
class Truth(Node):
    value: bool


@dataclass(frozen=True)
class Unary(Node):
    """`-operand`."""

    operand: Expression


@dataclass(frozen=True)
class Binary(Node):
    operator: str
    left: Expression
    right: Expression


@dataclass(frozen=True)
class Choice(Node):
    """`condition ? yes : no`."""

    condition: Expression
    yes: Expression
    no: Expression


@dataclass(frozen=True)
class Template(Node):
    """A name with template arguments: `amk::Packets<float>`."""

    name: str
    arguments: tuple[str, ...]


@dataclass(frozen=True)
class Member(Node):
    object: Expression
    name: str


@dataclass(frozen=True)
class Subscript(Node):
    object: Expression
    index: Expression


@dataclass(frozen=True)
class Call(Node):
    """`function(arguments)`; a conversion such as `long(i)` is a call of a type's name."""

    function: Expression
    arguments: tuple[Expression, ...]


@dataclass(frozen=True)
class Braces(Node):
    """`type{values}`."""

    type: Expression
    values: tuple[Expression, ...]


@dataclass(frozen=True)
class Parameter(Node):
    """A parameter of a lambda or function; without a name where it is not used."""

    type: str
    name: str | None


@dataclass(frozen=True)
class Lambda(Node):
    """`[&](parameters) -> result { body }`."""

    parameters: tuple[Parameter, ...]
    result: str | None
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Address(Node):
    """`(void*)value`."""

    value: Expression


Expression = (
    Name
    | Number
    | Truth
    | Unary
    | Binary
    | Choice
    | Template
    | Member
    | Subscript
    | Call
    | Braces
    | Lambda
    | Address
)


# ---- statements --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Declaration(Node):
    """`type name = value;`, or without a value; `unused` where it is marked [[maybe_unused]]."""

    type: str
    name: str
    value: Expression | None
    unused: bool = False


@dataclass(frozen=True)
class Aggregate(Node):
    """`type name = { values };`, of a struct or of an array (then its type ends in []).`"""

    type: str
    name: str
    values: tuple[Expression, ...]


@dataclass(frozen=True)
class Assignment(Node):
    target: Expression
    value: Expression


@dataclass(frozen=True)
class Evaluation(Node):
    """An expression as a statement."""

    value: Expression


@dataclass(frozen=True)
class Return(Node):
    value: Expression


@dataclass(frozen=True)
class Block(Node):
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class While(Node):
    condition: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class For(Node):
    """`for (int name = start; condition; name += step)`."""

    name: str
    start: Expression
    condition: Expression
    stepped: str
    step: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class If(Node):
    """`if (declaration; condition) body`."""

    declaration: Declaration | None
    condition: Expression
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Unused(Node):
    """`(void)name;`."""

    name: str


@dataclass(frozen=True)
class Case(Node):
    """`case number: { body break; }`."""

    number: int
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Switch(Node):
    """`switch (name) { cases }`."""

    name: str
    cases: tuple[Case, ...]


@dataclass(frozen=True)
class Field(Node):
    """A member of a struct; `extent` elements where it is an array."""

    type: str
    name: str
    extent: int | None


@dataclass(frozen=True)
class Struct(Node):
    name: str
    fields: tuple[Field, ...]


Statement = (
    Declaration
    | Aggregate
    | Assignment
    | Evaluation
    | Return
    | Block
    | While
    | For
    | If
    | Struct
    | Unused
    | Switch
)


# ---- the file ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Constant(Node):
    """`constexpr int name = value;` of `namespace amk::config`."""

    name: str
    value: int
    unused: bool


@dataclass(frozen=True)
class Function(Node):
    """`qualifiers void name(parameters) { body }`; qualifiers have single spaces."""

    qualifiers: str
    name: str
    parameters: tuple[Parameter, ...]
    body: tuple[Statement, ...]


@dataclass(frozen=True)
class Table(Node):
    """`AMK_TABLE int name[] = { numbers };`."""

    name: str
    numbers: tuple[int, ...]


@dataclass(frozen=True)
class Unit:
    """A file, less the device layer between the constants and the types."""

    constants: tuple[Constant, ...]
    structs: tuple[Struct, ...]
    tables: tuple[Table, ...]
    functions: tuple[Function, ...]
