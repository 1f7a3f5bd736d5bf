namespace amk {

using Fast = Exact;

}  // namespace amk
