#include <utility>

#include "check.h"
#include "vivace/merge.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

constexpr Merge merges[] = {Merge::add, Merge::subtract, Merge::multiply, Merge::average, Merge::maximum, Merge::minimum};

template <class T>
using Arrays = std::vector<std::vector<T>>;

template <class T>
std::vector<const T*> pointers(const Arrays<T>& arrays) {
    std::vector<const T*> all;
    for (const auto& array : arrays) all.push_back(array.data());
    return all;
}
template <class T>
std::vector<T*> pointers(Arrays<T>& arrays) {
    std::vector<T*> all;
    for (auto& array : arrays) all.push_back(array.data());
    return all;
}

// One element at a time, from the formulas.
template <class T>
T combine(Merge merge, const std::vector<T>& x) {
    T sum = x[0];
    for (std::size_t k = 1; k < x.size(); ++k) {
        const bool wins = merge == Merge::maximum ? !(sum > x[k]) : !(sum < x[k]);
        if (merge == Merge::maximum || merge == Merge::minimum)
            sum = std::isnan(sum) || !wins ? sum : x[k];
        else
            sum = merge == Merge::subtract ? sum - x[k] : merge == Merge::multiply ? sum * x[k] : sum + x[k];
    }
    return merge == Merge::average ? sum * (1 / static_cast<T>(x.size())) : sum;
}

template <class T>
std::vector<T> gradients(Merge merge, const std::vector<T>& x, T d) {
    std::vector<T> dx(x.size(), d);
    for (std::size_t k = x.size(); k-- > 0;) {
        if (merge == Merge::subtract && k > 0) dx[k] = -d;
        if (merge == Merge::average) dx[k] = d * (1 / static_cast<T>(x.size()));
        for (std::size_t other = 0; merge == Merge::multiply && other < x.size(); ++other)
            if (other != k) dx[k] *= x[other];
        if (merge != Merge::maximum && merge != Merge::minimum) continue;
        dx[k] = d;
        if (k == 0) continue;
        const T others = combine(merge, std::vector<T>(x.begin(), x.begin() + static_cast<std::ptrdiff_t>(k)));
        const T chosen = combine(merge, std::vector<T>{others, x[k]});
        const T share = chosen != x[k] ? T{0} : chosen == others ? T{0.5} : T{1};
        dx[k] = d * share;
        d *= 1 - share;
    }
    return dx;
}

template <class T>
void equals_formulas(Merge merge, std::size_t count, index size) {
    Arrays<T> x(count), dx(count, unset<T>(size)), expected_dx(count, unset<T>(size));
    for (auto& array : x) array = integers<T>(size);
    if (size > 4 && merge != Merge::average) x[0][1] = x[count - 1][3] = static_cast<T>(NAN);
    const auto dy = integers<T>(size);
    auto y = unset<T>(size), expected = y;
    for (std::size_t i = 0; i < y.size(); ++i) {
        std::vector<T> element;
        for (const auto& array : x) element.push_back(array[i]);
        expected[i] = combine(merge, element);
        const auto parts = gradients(merge, element, dy[i]);
        for (std::size_t k = 0; k < count; ++k) expected_dx[k][i] = parts[k];
    }
    const auto context = show(static_cast<int>(merge), count, size);
    merge_forward(merge, static_cast<index>(count), size, pointers(std::as_const(x)).data(), y.data());
    CHECK_EQUAL(y, expected, context);
    merge_backward(merge, static_cast<index>(count), size, pointers(std::as_const(x)).data(), dy.data(), pointers(dx).data());
    for (std::size_t k = 0; k < count; ++k) CHECK_EQUAL(dx[k], expected_dx[k], context);
    dx.assign(count, unset<T>(size));
    dx[0] = dy;  // in place
    merge_backward(merge, static_cast<index>(count), size, pointers(std::as_const(x)).data(), dx[0].data(), pointers(dx).data());
    for (std::size_t k = 0; k < count; ++k) CHECK_EQUAL(dx[k], expected_dx[k], context);
}

template <class T>
void joins(index rows, const std::vector<index>& columns) {
    Arrays<T> x, back;
    index width = 0;
    for (index size : columns) {
        x.push_back(integers<T>(rows * size));
        back.push_back(unset<T>(rows * size));
        width += size;
    }
    auto y = unset<T>(rows * width);
    std::vector<T> expected;
    for (index r = 0; r < rows; ++r)
        for (std::size_t i = 0; i < x.size(); ++i)
            expected.insert(expected.end(), x[i].begin() + r * columns[i], x[i].begin() + (r + 1) * columns[i]);
    const index count = static_cast<index>(x.size());
    concatenate(rows, count, columns.data(), pointers(std::as_const(x)).data(), y.data());
    CHECK_EQUAL(y, expected, show(rows, width));
    split(rows, count, columns.data(), y.data(), pointers(back).data());
    for (std::size_t i = 0; i < x.size(); ++i) CHECK_EQUAL(back[i], x[i], show(rows, width));
}

template <class T>
void all() {
    for (Merge merge : merges)
        for (std::size_t count : {1, 2, 3, 5})
            if (merge != Merge::subtract || count == 2)
                for (index size : {0, 1, 7, 16, 33, 40000}) equals_formulas<T>(merge, count, size);
    for (index rows : {0, 1, 3, 9000}) {
        joins<T>(rows, {4});
        joins<T>(rows, {1, 5, 16});
        joins<T>(rows, {0, 7, 2});
    }
}

}  // namespace

void test_merge() {
    const int threads = get_num_threads();
    for (int count : {1, 3}) {
        set_num_threads(count);
        all<float>();
        all<double>();
    }
    set_num_threads(threads);
}

}  // namespace vivace::tests
