#include <limits>

#include "check.h"
#include "vivace/activations.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"

namespace vivace::tests {
namespace {

constexpr double infinity = std::numeric_limits<double>::infinity();

struct Case {
    Function function;
    Parameters parameters;
};

constexpr Case cases[] = {
    {Function::leaky_relu, {0.2, infinity, 0}},
    {Function::leaky_relu, {0, 6, 0}},
    {Function::leaky_relu, {0.1, 2, 0.5}},
    {Function::leaky_relu, {0.1, infinity, -0.5}},
    {Function::elu, {1, 1, 1}},
    {Function::elu, {1.6732632423543772, 1.0507009873554805, 1}},
    {Function::elu, {0.7, 1, 1 / 0.7}},
    {Function::clip, {1.0 / 6, 0.5, 0}},
    {Function::clip, {1, 0, -1}},
    {Function::gelu, {}},
    {Function::gelu_tanh, {}},
    {Function::silu, {}},
    {Function::mish, {}},
    {Function::softplus, {1}},
    {Function::softplus, {-1}},
    {Function::softsign, {}},
    {Function::exponential, {}},
    {Function::hard_silu, {}},
    {Function::squareplus, {4}},
    {Function::soft_shrink, {0.5}},
    {Function::hard_shrink, {0.5}},
    {Function::tanh_shrink, {}},
    {Function::sparse_plus, {}},
    {Function::threshold, {0.3, -2}},
};

double reference_value(const Case& c, double x) {
    double y;
    reference::function_forward(c.function, c.parameters, 1, &x, &y);
    return y;
}

// The central difference of the reference; NaN where the slopes on either side differ, or how they change does.
double reference_slope(const Case& c, double x) {
    const auto central = [&](double h) { return (reference_value(c, x + h) - reference_value(c, x - h)) / (2 * h); };
    const double h = 1e-5 * std::fmax(1, std::fabs(x));
    const double below = reference_value(c, x - h), here = reference_value(c, x), above = reference_value(c, x + h);
    const double slope = central(h), size = std::fmax(1, std::fabs(slope));
    const bool smooth = std::fabs(above - 2 * here + below) <= 1e-3 * h * size && std::fabs(central(h / 2) - slope) <= 5e-9 * size;
    return smooth ? slope : std::numeric_limits<double>::quiet_NaN();
}

template <class T>
void equals_the_reference(const Case& c, index size, double deviation) {
    const auto x = reals<T>(size, deviation), dy = reals<T>(size);
    const std::string context = show(static_cast<int>(c.function), size, deviation, sizeof(T));
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    auto y = unset<T>(size), expected = unset<T>(size), in_place = x;
    function_forward(c.function, c.parameters, size, x.data(), y.data());
    function_forward(c.function, c.parameters, size, in_place.data(), in_place.data());
    reference::function_forward(c.function, c.parameters, size, x.data(), expected.data());
    CHECK_CLOSE(y, expected, 8 * epsilon, 4 * epsilon * std::fmax(1, deviation), context);
    CHECK_FOR(same_bits(in_place, y), context);

    auto dx = unset<T>(size);
    in_place = dy;
    function_backward(c.function, c.parameters, size, x.data(), y.data(), dy.data(), dx.data());
    function_backward(c.function, c.parameters, size, x.data(), y.data(), in_place.data(), in_place.data());
    CHECK_FOR(same_bits(in_place, dx), context);
    std::vector<double> slopes;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const double slope = reference_slope(c, static_cast<double>(x[i]));
        slopes.push_back(std::isnan(slope) ? static_cast<double>(dx[i]) : slope * static_cast<double>(dy[i]));
    }
    // How often no slope is known, so that this test cannot become one of nothing.
    std::size_t unknown = 0;
    for (const T v : x) unknown += std::isnan(reference_slope(c, static_cast<double>(v)));
    CHECK_FOR(unknown <= x.size() / 100 + 1, context + show("no slope at", unknown));
    CHECK_CLOSE(dx, slopes, 16 * epsilon + 2e-8, 16 * epsilon + 2e-8, context);
}

// Where exponentials overflow and vanish: the reference's value, and a slope that is a number.
template <class T>
void far_out(const Case& c) {
    std::vector<T> x;
    for (double v : {0.0, -0.0, 1e-30, 20.0, 80.0, 90.0, 700.0, 1e4, 1e18})
        for (double sign : {1.0, -1.0}) x.push_back(static_cast<T>(sign * v));
    if (c.function == Function::exponential) x.resize(10);
    const index size = static_cast<index>(x.size());
    auto y = unset<T>(size), expected = unset<T>(size), dx = unset<T>(size);
    function_forward(c.function, c.parameters, size, x.data(), y.data());
    reference::function_forward(c.function, c.parameters, size, x.data(), expected.data());
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    CHECK_CLOSE(y, expected, 8 * epsilon, 2e-37, show(static_cast<int>(c.function), sizeof(T)));
    const std::vector<T> ones(x.size(), 1);
    function_backward(c.function, c.parameters, size, x.data(), y.data(), ones.data(), dx.data());
    for (std::size_t i = 0; i < x.size(); ++i)
        CHECK_FOR(std::isfinite(dx[i]), show(static_cast<int>(c.function), sizeof(T), x[i]));
    if (c.function == Function::threshold) return;
    std::vector<T> nan(19, static_cast<T>(NAN)), result(19);
    function_forward(c.function, c.parameters, 19, nan.data(), result.data());
    CHECK_EQUAL(result, nan, show(static_cast<int>(c.function)));
}

template <class T>
void prelu(index rows, index columns) {
    const auto x = integers<T>(rows * columns), dy = integers<T>(rows * columns), alpha = integers<T>(columns);
    auto y = unset<T>(rows * columns), dx = y, expected = y, gradient = y;
    auto dalpha = integers<T>(columns), sums = dalpha, alone = dalpha;
    for (std::size_t i = 0; i < x.size(); ++i) {
        const std::size_t column = i % static_cast<std::size_t>(columns);
        expected[i] = x[i] > 0 ? x[i] : alpha[column] * x[i];
        gradient[i] = x[i] > 0 ? dy[i] : alpha[column] * dy[i];
        sums[column] += x[i] > 0 ? 0 : dy[i] * x[i];
    }
    prelu_forward(rows, columns, x.data(), alpha.data(), y.data());
    CHECK_EQUAL(y, expected, show(rows, columns));
    prelu_backward(rows, columns, x.data(), alpha.data(), dy.data(), static_cast<T*>(nullptr), alone.data());
    CHECK_EQUAL(alone, sums, show(rows, columns));
    prelu_backward(rows, columns, x.data(), alpha.data(), dy.data(), dx.data(), dalpha.data());
    CHECK_EQUAL(dalpha, sums, show(rows, columns));
    CHECK_EQUAL(dx, gradient, show(rows, columns));
}

template <class T>
void threads_agree() {
    const index rows = 9000, columns = 33, size = rows * columns;
    const auto x = reals<T>(size), dy = reals<T>(size), alpha = reals<T>(columns);
    std::vector<T> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        std::vector<T> y(x.size()), dx(x.size()), leaky(x.size()), dleaky(x.size()), dalpha(columns);
        function_forward(Function::gelu, {}, size, x.data(), y.data());
        function_backward(Function::gelu, {}, size, x.data(), y.data(), dy.data(), dx.data());
        prelu_forward(rows, columns, x.data(), alpha.data(), leaky.data());
        prelu_backward(rows, columns, x.data(), alpha.data(), dy.data(), dleaky.data(), dalpha.data());
        for (const auto& part : {dx, leaky, dleaky, dalpha}) y.insert(y.end(), part.begin(), part.end());
        if (threads == 1) first = y;
        CHECK_FOR(same_bits(y, first), show(threads));
    }
}

template <class T>
void all() {
    for (const Case& c : cases) {
        for (index size : {1, 7, 8, 9, 15, 16, 17, 35, 40001}) equals_the_reference<T>(c, size, size % 2 ? 3 : 0.1);
        far_out<T>(c);
    }
    for (index columns : {1, 3, 8, 17, 64, 100, 5000})
        for (index rows : {1, 4, 300}) prelu<T>(rows, columns);
    threads_agree<T>();
}

}  // namespace

void test_activations() {
    const int threads = get_num_threads();
    all<float>();
    all<double>();
    set_num_threads(threads);
}

}  // namespace vivace::tests
