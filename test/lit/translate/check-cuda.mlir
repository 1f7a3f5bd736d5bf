// A printed file is read back: it is the verified schedule, or the first place where it is not is named.
// RUN: amk-translate --to-cuda --arch=sm_80 %s -o %t.cu
// RUN: amk-translate --check-cuda %t.cu --arch=sm_80 %s | filecheck %s --check-prefix=PROVED
// RUN: not amk-translate --check-cuda %t.cu --arch=sm_90 %s 2>&1 | filecheck %s --check-prefix=TARGET
// RUN: not amk-translate --check-cuda %t.cu %s 2>&1 | filecheck %s --check-prefix=TARGET
// RUN: sed -e 's/w.pos \* 4/w.pos * 8/' %t.cu > %t.place.cu
// RUN: not amk-translate --check-cuda %t.place.cu --arch=sm_80 %s 2>&1 | filecheck %s --check-prefix=PLACE
// RUN: sed -e 's/st.relaxed.gpu.global.b64/st.weak.global.b64/' %t.cu > %t.device.cu
// RUN: not amk-translate --check-cuda %t.device.cu --arch=sm_80 %s 2>&1 | filecheck %s --check-prefix=DEVICE
// RUN: sed -e 's/w.sync();/w.rest();/' %t.cu > %t.unknown.cu
// RUN: not amk-translate --check-cuda %t.unknown.cu --arch=sm_80 %s 2>&1 | filecheck %s --check-prefix=DEVICE
// RUN: sed -e 's/signals .@done += 1.//' %s | not amk-translate --check-cuda %t.cu --arch=sm_80 2>&1 | filecheck %s --check-prefix=RACE
// RUN: not amk-translate --check-cuda %t.none.cu %s 2>&1 | filecheck %s --check-prefix=NONE
// RUN: not amk-translate --check-cuda - 2>&1 | filecheck %s --check-prefix=STDIN

// PROVED: {{.*}}.cu: 4 tasks of 2 families in order on 2 workers, 8 accesses (0 of packets), 4 waits, 4 signals and 0 streams are those of the verified IR;
// PROVED-NOT: error
// TARGET: {{.*}}.cu:2:1: error: this program was printed for sm_80, not for sm_90
// PLACE: {{.*}}.place.cu:{{[0-9]+}}:{{[0-9]+}}: error: the place in @y is not that of take[0]
// DEVICE: {{.*}}.cu:{{[0-9]+}}:1: error: the device layer differs from the packaged text of sm_80, which has '
// RACE-NOT: proved
// RACE: error: {{(malformed|deadlock|race)}}:
// NONE: error: cannot read '{{.*}}.none.cu'
// STDIN: error: --check-cuda needs a file, if the module comes from standard input

tile.kernel @copy(%from: memref<4xf32>, %to: memref<?xf32>) {
  tile.map -> %to {counts = array<i64: 1>} {
  ^bb0(%e: index):
    %v = tile.load %from[%e]
    tile.yield %v : f32
  }
}
task.schedule @s attributes {workers = 2 : i64, context = 8 : i64} {
  task.scalar @pos in 0 to 8 step 1
  task.buffer @a input : memref<4xf32>
  task.buffer @x scratch : memref<2x4xf32>
  task.buffer @y output : memref<16x4xf32>
  task.counter @done
  task.counter @read
  task.family @give calls @copy for i in 2 on i args [in @a[0 : 4], out @x[i, 0 : 4]] waits [@read >= 0] signals [@done += 1]
  task.family @take calls @copy for i in 2 on i args [in @x[(i + 1) mod 2, 0 : 4], out @y[pos + 8 * i, 0 : 4]] waits [@done >= 2] signals [@read += 1]
}
