// Tables of constants.
#define AMK_TABLE constexpr
