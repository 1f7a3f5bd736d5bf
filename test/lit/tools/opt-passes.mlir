// Passes run in the order of their flags, mixed with pipelines; each is printed after it ran.
// RUN: amk-opt --cse %s | filecheck %s
// RUN: amk-opt -p cse,canonicalize --cse --print-ir-after-all %s 2>&1 >/dev/null | filecheck %s --check-prefix=DUMP
// RUN: amk-opt --cse %s -o %t && filecheck %s < %t

// CHECK: func.func @twice
// CHECK-NEXT: %a = arith.constant 1 : i32
// CHECK-NEXT: func.return %a, %a : i32, i32
// DUMP: // -----// IR Dump After cse //----- //
// DUMP: // -----// IR Dump After canonicalize //----- //
// DUMP: // -----// IR Dump After cse //----- //
func.func @twice() -> (i32, i32) {
  %a = arith.constant 1 : i32
  %b = arith.constant 1 : i32
  func.return %a, %b : i32, i32
}
