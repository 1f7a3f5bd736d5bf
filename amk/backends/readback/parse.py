"""Text of the schedule part of a printed program to its syntax tree, by `grammar.lark`."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Any

from amk.backends.readback import syntax
from amk.errors import AmkError


def parse(text: str, name: str) -> syntax.Unit:
    """The tree of the file `name`; AmkError at the first thing that the printer never writes."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    try:
        return _parser().parse(text)
    except UnexpectedToken as error:
        if error.token.type == "$END":
            where = f"{name}:{text.count(chr(10)) + 1}:1"
            raise AmkError("the file ends in the middle of a construct", location=where) from error
        message = f"the printer does not write '{error.token}' here"
        raise AmkError(message, location=f"{name}:{error.line}:{error.column}") from error
    except UnexpectedCharacters as error:
        message = f"the printer does not write {text[error.pos_in_stream]!r} here"
        raise AmkError(message, location=f"{name}:{error.line}:{error.column}") from error


@cache
def _parser() -> Any:
    # Imported here so that a command that reads nothing back does not load lark.
    from lark import Lark

    grammar = files(__package__ or "").joinpath("grammar.lark").read_text(encoding="utf-8")
    return Lark(grammar, start="unit", parser="lalr", transformer=_builder())


def _builder() -> Any:
    from lark import Token, Transformer, v_args

    def at(token: Any) -> tuple[int, int]:
        """Where a token or a node stands."""
        return token.line, token.column

    @v_args(inline=True)
    class Builder(Transformer[Token, Any]):
        """One method for each rule of the grammar."""

        # ---- the file

        def unit(self, config: tuple[syntax.Constant, ...], *rest: Any) -> syntax.Unit:
            return syntax.Unit(
                config,
                tuple(item for item in rest if isinstance(item, syntax.Struct)),
                tuple(item for item in rest if isinstance(item, syntax.Table)),
                tuple(item for item in rest if isinstance(item, syntax.Function)),
            )

        def config(self, *constants: syntax.Constant) -> tuple[syntax.Constant, ...]:
            return constants

        def constant(self, unused: Any, name: Any, value: Any) -> syntax.Constant:
            return syntax.Constant(*at(name), str(name), int(value), unused is not None)

        def function(
            self,
            qualifiers: str,
            _: Any,
            bounds: str | None,
            name: Any,
            parameters: Any,
            *body: Any,
        ) -> syntax.Function:
            qualifiers = f"{qualifiers} {bounds}" if bounds else qualifiers
            return syntax.Function(*at(name), qualifiers, str(name), parameters, body)

        def qualifiers(self, word: Any) -> str:
            return str(word)

        def entry(self) -> str:
            return 'extern "C" __global__'

        def bounds(self, threads: Any, blocks: Any) -> str:
            return f"__launch_bounds__({threads}, {blocks})"

        def struct(self, name: Any, *fields: syntax.Field) -> syntax.Struct:
            return syntax.Struct(*at(name), str(name), fields)

        def field(self, type_: str, name: Any, extent: Any) -> syntax.Field:
            return syntax.Field(
                *at(name), type_, str(name), None if extent is None else int(extent)
            )

        def table(self, name: Any, numbers: Any) -> syntax.Table:
            values = tuple(int(number) for number in numbers.strip("{} \n").split(",")[:-1])
            return syntax.Table(*at(name), str(name), values)

        # ---- types

        def type(self, const: Any, word: str, mark: Any) -> str:
            return f"{'const ' if const else ''}{word}{mark or ''}"

        def word(self, token: Any) -> str:
            return str(token)

        def unsigned_char(self) -> str:
            return "unsigned char"

        def parameters(self, *items: Any) -> tuple[syntax.Parameter, ...]:
            return tuple(item for item in items if item is not None)

        def parameter(self, type_: str, name: Any) -> syntax.Parameter:
            place = at(name) if name is not None else (0, 0)
            return syntax.Parameter(*place, type_, None if name is None else str(name))

        def array_parameter(
            self, const: Any, base: Any, mark: Any, name: Any, extent: Any
        ) -> syntax.Parameter:
            return syntax.Parameter(*at(name), f"{const} {base} ({mark})[{extent}]", str(name))

        # ---- statements

        def constant_value(
            self, unused: Any, const: Any, base: Any, name: Any, value: Any
        ) -> syntax.Declaration:
            type_ = f"{const} {base}"
            return syntax.Declaration(*at(name), type_, str(name), value, unused is not None)

        def constant_pointer(
            self, base: Any, star: Any, const: Any, name: Any, value: Any
        ) -> syntax.Declaration:
            return syntax.Declaration(*at(name), f"{base}{star} {const}", str(name), value)

        def aggregate(self, const: Any, type_: Any, name: Any, *values: Any) -> syntax.Aggregate:
            return syntax.Aggregate(*at(name), f"{const} {type_}", str(name), values)

        def constant_row(
            self, const: Any, base: Any, star: Any, last: Any, name: Any, value: Any
        ) -> syntax.Declaration:
            return syntax.Declaration(*at(name), f"{const} {base}{star} {last}", str(name), value)

        def aggregate_of(self, const: Any, type_: Any, name: Any, values: Any) -> syntax.Aggregate:
            return syntax.Aggregate(*at(name), f"{const} {type_}", str(name), values)

        def pointers(
            self, base: Any, star: Any, const: Any, name: Any, values: Any
        ) -> syntax.Aggregate:
            return syntax.Aggregate(*at(name), f"{base}{star} {const}[]", str(name), values)

        def unused(self, _: Any, name: Any) -> syntax.Unused:
            return syntax.Unused(*at(name), str(name))

        def switch(self, name: Any, *cases: syntax.Case) -> syntax.Switch:
            return syntax.Switch(*at(name), str(name), cases)

        def case(self, number: Any, *body: Any) -> syntax.Case:
            return syntax.Case(*at(number), int(number), body)

        def variable(self, type_: Any, name: Any) -> syntax.Declaration:
            return syntax.Declaration(*at(name), str(type_), str(name), None)

        def block(self, *body: Any) -> syntax.Block:
            line, column = at(body[0]) if body else (0, 0)
            return syntax.Block(line, column, body)

        def evaluation(self, value: Any) -> syntax.Evaluation:
            return syntax.Evaluation(*at(value), value)

        def assignment(self, target: Any, value: Any) -> syntax.Assignment:
            return syntax.Assignment(*at(target), target, value)

        def return_(self, value: Any) -> syntax.Return:
            return syntax.Return(*at(value), value)

        def while_(self, condition: Any, *body: Any) -> syntax.While:
            return syntax.While(*at(condition), condition, body)

        def for_(self, name: Any, start: Any, condition: Any, step: Any, *body: Any) -> syntax.For:
            stepped, amount = step
            return syntax.For(*at(name), str(name), start, condition, stepped, amount, body)

        def increment(self, name: Any) -> tuple[str, syntax.Number]:
            return str(name), syntax.Number(*at(name), "1")

        def advance(self, name: Any, amount: Any) -> tuple[str, syntax.Expression]:
            return str(name), amount

        def if_(self, declaration: Any, condition: Any, body: Any) -> syntax.If:
            place = at(declaration or condition)
            statements = body.body if isinstance(body, syntax.Block) else (body,)
            return syntax.If(*place, declaration, condition, statements)

        # ---- expressions

        def choice(self, condition: Any, yes: Any, no: Any) -> syntax.Choice:
            return syntax.Choice(*at(condition), condition, yes, no)

        def binary(self, left: Any, operator: Any, right: Any) -> syntax.Binary:
            return syntax.Binary(*at(left), str(operator), left, right)

        def negative(self, minus: Any, operand: Any) -> syntax.Unary:
            return syntax.Unary(*at(minus), operand)

        def address(self, _: Any, star: Any, value: Any) -> syntax.Address:
            return syntax.Address(*at(value), value)

        def member(self, object_: Any, name: Any) -> syntax.Member:
            return syntax.Member(*at(object_), object_, str(name))

        def template_member(self, object_: Any, template: syntax.Template) -> syntax.Member:
            name = f"{template.name}<{', '.join(template.arguments)}>"
            return syntax.Member(*at(object_), object_, name)

        def subscript(self, object_: Any, index: Any) -> syntax.Subscript:
            return syntax.Subscript(*at(object_), object_, index)

        def call(self, function: Any, arguments: Any) -> syntax.Call:
            return syntax.Call(*at(function), function, arguments)

        def braces(self, type_: Any, values: Any) -> syntax.Braces:
            return syntax.Braces(*at(type_), type_, values)

        def nothing(self, type_: Any) -> syntax.Braces:
            return syntax.Braces(*at(type_), syntax.Name(*at(type_), str(type_)), ())

        def name(self, token: Any) -> syntax.Name:
            return syntax.Name(*at(token), str(token))

        def number(self, token: Any) -> syntax.Number:
            return syntax.Number(*at(token), str(token))

        def truth(self, token: Any) -> syntax.Truth:
            return syntax.Truth(*at(token), token == "true")

        def template(self, name: Any, *arguments: str) -> syntax.Template:
            return syntax.Template(*at(name), str(name), arguments)

        def template_argument(self, token: Any) -> str:
            return str(token)

        def pointer_argument(self, const: Any, base: Any, star: Any) -> str:
            return f"{'const ' if const else ''}{base}{star}"

        def arguments(self, *items: Any) -> tuple[syntax.Expression, ...]:
            return tuple(item for item in items if item is not None)

        def closure(self, parameters: Any, result: Any, *body: Any) -> syntax.Lambda:
            nodes = [*parameters, *body]
            place = next((at(node) for node in nodes if node.line), (0, 0))
            result = None if result is None else str(result)
            return syntax.Lambda(*place, parameters, result, body)

    return Builder()
