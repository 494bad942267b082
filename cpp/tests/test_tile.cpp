// The microkernel's packing. Its products are tested where they are used (test_gemm.cpp, test_conv2d.cpp).
#include "check.h"
#include "tile.h"

namespace vivace::tests {
namespace {

// All of a panel, zeros in its padding included, and nothing else; the source is not read past its end.
template <class T>
void packed_panel(index k, index columns, bool transposed) {
    const index rows = transposed ? columns : k, row = transposed ? k : columns, ld = row + 3;
    AtTheEnd<T> source((rows - 1) * ld + row);
    for (index i = 0; i < rows; ++i)
        for (index j = 0; j < ld; ++j)
            if (i * ld + j < source.size()) source[i * ld + j] = j < row ? static_cast<T>(1 + i * row + j) : static_cast<T>(NAN);
    const index width = panel_width<T>(columns);
    std::vector<T> packed(static_cast<std::size_t>(k * width + lanes<T>), T{-1}), expected = packed;
    for (index i = 0; i < k; ++i)
        for (index j = 0; j < width; ++j)
            expected[static_cast<std::size_t>(i * width + j)] =
                j < columns ? source[transposed ? j * ld + i : i * ld + j] : T{0};
    pack_panel(static_cast<const T*>(source.data()), ld, transposed, k, columns, packed.data());
    CHECK_EQUAL(packed, expected, show(k, columns, transposed));
}

template <class T>
void all() {
    for (index k : {index{1}, index{3}, lanes<T> - 1, lanes<T>, lanes<T> + 1, 3 * lanes<T> + 2})
        for (index columns = 1; columns <= panel_columns<T>; ++columns)
            for (bool transposed : {false, true}) packed_panel<T>(k, columns, transposed);
}

}  // namespace

void test_tile() {
    all<float>();
    all<double>();
}

}  // namespace vivace::tests
