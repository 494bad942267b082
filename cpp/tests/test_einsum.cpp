// Einstein's sum against its definition, a loop over all axes.
#include "check.h"
#include "vivace/einsum.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

using Names = std::u32string;

struct Problem {
    Names x, w, y;
    std::vector<index> sizes;  // of the axes a, b, c, ...

    std::vector<index> of(const Names& names) const {
        std::vector<index> own;
        for (const char32_t a : names) own.push_back(sizes[a - U'a']);
        return own;
    }
    index place(const Names& names, const std::vector<index>& at) const {
        index place = 0;
        for (const char32_t a : names) place = place * sizes[a - U'a'] + at[a - U'a'];
        return place;
    }
    // Calls f(index in x, in w, in y) for every combination.
    template <class F>
    void for_all(F&& f) const {
        std::vector<index> at(sizes.size());
        for (;;) {
            f(place(x, at), place(w, at), place(y, at));
            std::size_t axis = 0;
            while (axis < at.size() && ++at[axis] == sizes[axis]) at[axis++] = 0;
            if (axis == at.size()) return;
        }
    }
};

template <class T>
void equals_definition(const Problem& p) {
    const Einsum op(p.x, p.w, p.y, p.of(p.x), p.of(p.w), {});
    const auto x = integers<T>(op.x_size), w = integers<T>(op.w_size), dy = integers<T>(op.y_size);
    std::vector<T> y(dy.size()), dx(x.size()), dw(w.size()), got_y(y), got_dx(dx), got_dw(dw);
    p.for_all([&](index i, index j, index k) {
        y[k] += x[i] * w[j];
        dx[i] += dy[k] * w[j];
        dw[j] += dy[k] * x[i];
    });
    einsum_forward<T>(op, x.data(), w.data(), nullptr, Activation::linear, got_y.data());
    einsum_backward<T>(op, x.data(), w.data(), dy.data(), got_dx.data(), got_dw.data(), nullptr, true);
    const std::string context = " " + std::string(p.x.begin(), p.x.end()) + "," + std::string(p.w.begin(), p.w.end()) + "->" +
                                std::string(p.y.begin(), p.y.end());
    CHECK_EQUAL(got_y, y, context);
    CHECK_EQUAL(got_dx, dx, context);
    CHECK_EQUAL(got_dw, dw, context);
}

}  // namespace

void test_einsum() {
    for (int i = 0; i < 200; ++i) {
        Problem p;
        for (char32_t name = U'a'; name < U'a' + 1 + i % 5; ++name) {
            p.sizes.push_back(random_index(1, i % 10 ? 5 : 19));
            const index role = random_index(0, 4);  // shared, row, summed, column, x's alone
            if (role != 3) p.x.push_back(name);
            if (role != 1 && role != 4) p.w.push_back(name);
            if (role != 2 && role != 4) p.y.push_back(name);
        }
        for (Names* names : {&p.x, &p.w, &p.y}) std::shuffle(names->begin(), names->end(), rng);
        set_num_threads(1 + i % 2);
        equals_definition<float>(p);
        equals_definition<double>(p);
    }
}

}  // namespace vivace::tests
