// The matrix unit, and what brings 8x8 matrices of 16-bit values into its registers (PTX ISA,
// "Matrix multiply-accumulate operation using mma instruction"). A lane has two elements of each
// matrix, in row lane / 4: 2 (lane % 4) and the next.
namespace amk {

// Four matrices; lane 8 j + i gives the address of row i of matrix j, a multiple of 16 bytes.
AMK_DEVICE void load_matrices(const unsigned char* row, uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}
// The same, each of them transposed.
AMK_DEVICE void load_transposed(const unsigned char* row, uint32_t (&m)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(m[0]), "=r"(m[1]), "=r"(m[2]), "=r"(m[3])
               : "r"(shared_address(row))
               : "memory");
}

// c[8][8] += a[8][16] b[8][16]^T: a and b are two matrices beside each other. The unit takes sixteen
// rows of a; the others, with c[2] and c[3], are zero.
AMK_DEVICE void multiply_rows(const uint32_t (&a)[2], const uint32_t* b, float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %5}, "
      "{%7, %8}, {%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(0), "r"(a[1]), "r"(b[0]), "r"(b[1]));
}
// c[16][8] += a[16][8] b[8][8]^T: a and c are two matrices below each other.
AMK_DEVICE void multiply_columns(const uint32_t* a, uint32_t b, float (&c)[4]) {
  asm("mma.sync.aligned.m16n8k8.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5}, {%6}, "
      "{%0, %1, %2, %3};"
      : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
      : "r"(a[0]), "r"(a[1]), "r"(b));
}

}  // namespace amk
