namespace amk {

// Whether sums may have any order, the matrix unit knows the types, a row is at most what a warp
// copies at once, in whole pieces, and the query heads are at most a tile.
template <class KV, class Q, int D, int G, class Functions>
constexpr bool kByRows = !Functions::kOrdered && sizeof(KV) == 2 && sizeof(Q) == 2 && D % 8 == 0 &&
                         D <= 256 && G <= 8;

// One key-value head and one of S splits of the positions: G query heads attend over the rows of
// the split, with Z partial results each. Old rows come from the cache, by copies that start before
// the query arrives; the owner of the new position also receives its key and value and appends
// them. Partial index ((g * S * Z) + z) * (D + 2) + d.
template <class KV, int D, int G, int Z, int S, class Functions, class Q>
AMK_DEVICE void attention(Worker& w, Packets<Q> q, Packets<Q> k, Packets<Q> v, bool own,
                          KV* key_cache, KV* value_cache, int rows, float scale,
                          Packets<float> partial) {
  // A first tile has a warp for each head and unit: no warps must meet at the end.
  constexpr bool kOneTile = kByRows<KV, Q, D, G, Functions>;
  if constexpr (kOneTile) {
    if (rows + own > TilesPlan<KV, D, G, Z>::kRows) {
      attention_by_rows<KV, D, G, Z, S, Functions>(w, q, k, v, own, key_cache, value_cache, rows,
                                                   scale, partial);
      return;
    }
  }
  attention_by_tiles<KV, D, G, Z, S, kOneTile, Functions>(w, q, k, v, own, key_cache, value_cache,
                                                          rows, scale, partial);
}

}  // namespace amk
