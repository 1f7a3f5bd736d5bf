// The driver inserts the one pass that is missing, and names the passes where several are.
// RUN: amk-opt --lower-to-tasks="workers=4" %s 2>&1 | filecheck %s --check-prefix=INSERTED
// RUN: not amk-opt --lower-to-tasks --lower-to-tiles %s 2>&1 | filecheck %s --check-prefix=BACK
// RUN: not amk-translate --to-cuda %s 2>&1 | filecheck %s --check-prefix=TRANSLATE

// INSERTED: remark: inserted --lower-to-tiles before --lower-to-tasks
// INSERTED: task.
// BACK: levels.mlir:{{[0-9]+}}:1: error: --lower-to-tiles takes nn IR, but the module is task IR
// TRANSLATE: levels.mlir:{{[0-9]+}}:1: error: amk-translate takes task IR, but the module is nn IR: run amk-opt --lower-to-tiles --lower-to-tasks first
nn.model @tiny {context = 64 : i64, eos = array<i64: 2>, dtype = f32} (%token: tensor<i32>, %pos: index) {
  %table = nn.param "embed" : tensor<96x8xf32>
  %x = nn.embedding %table, %token : (tensor<96x8xf32>, tensor<i32>) -> tensor<8xf32>
  %logits = nn.linear %x, %table : (tensor<8xf32>, tensor<96x8xf32>) -> tensor<96xf32>
  %next = nn.argmax %logits : tensor<96xf32>
  nn.return %logits, %next : tensor<96xf32>
}
