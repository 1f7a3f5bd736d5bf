"""What each rule of `grammar.lark` becomes: a node of `syntax`, or a part of one."""

from __future__ import annotations

from typing import Any

from lark import Token, Transformer, v_args

from amk.backends.readback import syntax


def _at(token: Any) -> tuple[int, int]:
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
        return syntax.Constant(*_at(name), str(name), int(value), unused is not None)

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
        return syntax.Function(*_at(name), qualifiers, str(name), parameters, body)

    def qualifiers(self, word: Any) -> str:
        return str(word)

    def entry(self) -> str:
        return 'extern "C" __global__'

    def bounds(self, threads: Any, blocks: Any) -> str:
        return f"__launch_bounds__({threads}, {blocks})"

    def struct(self, name: Any, *fields: syntax.Field) -> syntax.Struct:
        return syntax.Struct(*_at(name), str(name), fields)

    def field(self, type_: str, name: Any, extent: Any) -> syntax.Field:
        return syntax.Field(*_at(name), type_, str(name), None if extent is None else int(extent))

    def table(self, name: Any, numbers: Any) -> syntax.Table:
        values = tuple(int(number) for number in numbers.strip("{} \n").split(",")[:-1])
        return syntax.Table(*_at(name), str(name), values)

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
        place = _at(name) if name is not None else (0, 0)
        return syntax.Parameter(*place, type_, None if name is None else str(name))

    def array_parameter(
        self, const: Any, base: Any, mark: Any, name: Any, extent: Any
    ) -> syntax.Parameter:
        return syntax.Parameter(*_at(name), f"{const} {base} ({mark})[{extent}]", str(name))

    # ---- statements

    def constant_value(
        self, unused: Any, const: Any, base: Any, name: Any, value: Any
    ) -> syntax.Declaration:
        type_ = f"{const} {base}"
        return syntax.Declaration(*_at(name), type_, str(name), value, unused is not None)

    def constant_pointer(
        self, base: Any, star: Any, const: Any, name: Any, value: Any
    ) -> syntax.Declaration:
        return syntax.Declaration(*_at(name), f"{base}{star} {const}", str(name), value)

    def aggregate(self, const: Any, type_: Any, name: Any, *values: Any) -> syntax.Aggregate:
        return syntax.Aggregate(*_at(name), f"{const} {type_}", str(name), values)

    def constant_row(
        self, const: Any, base: Any, star: Any, last: Any, name: Any, value: Any
    ) -> syntax.Declaration:
        return syntax.Declaration(*_at(name), f"{const} {base}{star} {last}", str(name), value)

    def aggregate_of(self, const: Any, type_: Any, name: Any, values: Any) -> syntax.Aggregate:
        return syntax.Aggregate(*_at(name), f"{const} {type_}", str(name), values)

    def pointers(
        self, base: Any, star: Any, const: Any, name: Any, values: Any
    ) -> syntax.Aggregate:
        return syntax.Aggregate(*_at(name), f"{base}{star} {const}[]", str(name), values)

    def unused(self, _: Any, name: Any) -> syntax.Unused:
        return syntax.Unused(*_at(name), str(name))

    def switch(self, name: Any, *cases: syntax.Case) -> syntax.Switch:
        return syntax.Switch(*_at(name), str(name), cases)

    def case(self, number: Any, *body: Any) -> syntax.Case:
        return syntax.Case(*_at(number), int(number), body)

    def variable(self, type_: Any, name: Any) -> syntax.Declaration:
        return syntax.Declaration(*_at(name), str(type_), str(name), None)

    def block(self, *body: Any) -> syntax.Block:
        line, column = _at(body[0]) if body else (0, 0)
        return syntax.Block(line, column, body)

    def evaluation(self, value: Any) -> syntax.Evaluation:
        return syntax.Evaluation(*_at(value), value)

    def assignment(self, target: Any, value: Any) -> syntax.Assignment:
        return syntax.Assignment(*_at(target), target, value)

    def return_(self, value: Any) -> syntax.Return:
        return syntax.Return(*_at(value), value)

    def while_(self, condition: Any, *body: Any) -> syntax.While:
        return syntax.While(*_at(condition), condition, body)

    def for_(self, name: Any, start: Any, condition: Any, step: Any, *body: Any) -> syntax.For:
        stepped, amount = step
        return syntax.For(*_at(name), str(name), start, condition, stepped, amount, body)

    def increment(self, name: Any) -> tuple[str, syntax.Number]:
        return str(name), syntax.Number(*_at(name), "1")

    def advance(self, name: Any, amount: Any) -> tuple[str, syntax.Expression]:
        return str(name), amount

    def if_(self, declaration: Any, condition: Any, body: Any) -> syntax.If:
        place = _at(declaration or condition)
        statements = body.body if isinstance(body, syntax.Block) else (body,)
        return syntax.If(*place, declaration, condition, statements)

    # ---- expressions

    def choice(self, condition: Any, yes: Any, no: Any) -> syntax.Choice:
        return syntax.Choice(*_at(condition), condition, yes, no)

    def binary(self, left: Any, operator: Any, right: Any) -> syntax.Binary:
        return syntax.Binary(*_at(left), str(operator), left, right)

    def negative(self, minus: Any, operand: Any) -> syntax.Unary:
        return syntax.Unary(*_at(minus), operand)

    def address(self, _: Any, star: Any, value: Any) -> syntax.Address:
        return syntax.Address(*_at(value), value)

    def member(self, object_: Any, name: Any) -> syntax.Member:
        return syntax.Member(*_at(object_), object_, str(name))

    def template_member(self, object_: Any, template: syntax.Template) -> syntax.Member:
        name = f"{template.name}<{', '.join(template.arguments)}>"
        return syntax.Member(*_at(object_), object_, name)

    def subscript(self, object_: Any, index: Any) -> syntax.Subscript:
        return syntax.Subscript(*_at(object_), object_, index)

    def call(self, function: Any, arguments: Any) -> syntax.Call:
        return syntax.Call(*_at(function), function, arguments)

    def braces(self, type_: Any, values: Any) -> syntax.Braces:
        return syntax.Braces(*_at(type_), type_, values)

    def nothing(self, type_: Any) -> syntax.Braces:
        return syntax.Braces(*_at(type_), syntax.Name(*_at(type_), str(type_)), ())

    def name(self, token: Any) -> syntax.Name:
        return syntax.Name(*_at(token), str(token))

    def number(self, token: Any) -> syntax.Number:
        return syntax.Number(*_at(token), str(token))

    def truth(self, token: Any) -> syntax.Truth:
        return syntax.Truth(*_at(token), token == "true")

    def template(self, name: Any, *arguments: str) -> syntax.Template:
        return syntax.Template(*_at(name), str(name), arguments)

    def template_argument(self, token: Any) -> str:
        return str(token)

    def pointer_argument(self, const: Any, base: Any, star: Any) -> str:
        return f"{'const ' if const else ''}{base}{star}"

    def arguments(self, *items: Any) -> tuple[syntax.Expression, ...]:
        return tuple(item for item in items if item is not None)

    def closure(self, parameters: Any, result: Any, *body: Any) -> syntax.Lambda:
        nodes = [*parameters, *body]
        place = next((_at(node) for node in nodes if node.line), (0, 0))
        result = None if result is None else str(result)
        return syntax.Lambda(*place, parameters, result, body)
