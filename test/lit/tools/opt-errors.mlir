// An invalid op, a text that does not parse and a missing file are one line each, and status 1.
// RUN: not amk-opt %s 2>&1 | filecheck %s --check-prefix=INVALID
// RUN: echo "func.func @f(" | not amk-opt 2>&1 | filecheck %s --check-prefix=PARSE
// RUN: not amk-opt no-such-file.mlir 2>&1 | filecheck %s --check-prefix=MISSING
// RUN: not amk-opt --lower-to-tile %s 2>&1 | filecheck %s --check-prefix=UNKNOWN

// INVALID-NOT: builtin.module
// INVALID: opt-errors.mlir:12:1: error: 'arith.addi' op Expected 2 operands, but got 0
// PARSE: <stdin>:{{.*}}: error: {{.+}}
// MISSING: error: cannot read 'no-such-file.mlir': No such file or directory
// UNKNOWN: error: unknown option or pass '--lower-to-tile'; did you mean '--lower-to-tiles'?
"arith.addi"() : () -> ()
