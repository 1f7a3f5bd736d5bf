// The error of each part is where its comment says; a part without one prints its module.
// RUN: amk-opt --split-input-file --verify-diagnostics %s | filecheck %s

// CHECK: builtin.module
// CHECK-NEXT: %fine = arith.constant 1 : i32
%fine = arith.constant 1 : i32

// -----

"arith.addi"() : () -> () // expected-error {{'arith.addi' op Expected 2 operands, but got 0}}

// -----

// expected-error@+1 {{Operation unknown.op is not registered}}
"unknown.op"() : () -> ()

// -----

%a = arith.constant 1 : i32
func.func @f() {
  // expected-error@below {{'func.call' op '@missing' could not be found in symbol table}}
  func.call @missing() : () -> ()
  func.return
}
