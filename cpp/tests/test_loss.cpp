#include <limits>

#include "check.h"
#include "vivace/loss.h"
#include "vivace/parallel.h"

namespace vivace::tests {
namespace {

using Reals = std::vector<double>;

// The formulas of loss.h, one row at a time, in long double.
std::vector<long double> log_softmax(const double* z, std::size_t columns) {
    const long double top = *std::max_element(z, z + columns);
    long double sum = 0;
    for (std::size_t c = 0; c < columns; ++c) sum += std::exp(z[c] - top);
    std::vector<long double> result(columns);
    for (std::size_t c = 0; c < columns; ++c) result[c] = (z[c] - top) - std::log(sum);
    return result;
}

enum class Loss { sparse, softmax, sigmoid, squared };

template <class T>
struct Problem {
    index rows, columns;
    std::vector<T> z, targets, scale;
    std::vector<std::int64_t> labels;

    Problem(index rows_, index columns_, Loss loss, double deviation)
        : rows(rows_), columns(columns_), z(reals<T>(rows * columns, deviation)), scale(reals<T>(rows)) {
        // Targets need not add up to 1: the formulas hold for any.
        std::uniform_real_distribution<double> uniform(0, 1);
        for (index i = 0; i < rows * columns; ++i)
            targets.push_back(static_cast<T>(loss == Loss::squared ? 3 * uniform(rng) - 1 : uniform(rng)));
        for (index r = 0; r < rows; ++r) labels.push_back(random_index(0, columns - 1));
    }
};

// Losses, probabilities and gradients, for the given logits (exact for long doubles cast down).
struct Answer {
    Reals losses, probabilities, gradients;
};

template <class T>
Answer exact(const Problem<T>& p, Loss loss) {
    Answer a;
    const std::size_t columns = static_cast<std::size_t>(p.columns);
    for (std::size_t r = 0; r < static_cast<std::size_t>(p.rows); ++r) {
        const Reals z(p.z.begin() + static_cast<index>(r * columns), p.z.begin() + static_cast<index>((r + 1) * columns));
        Reals t(p.targets.begin() + static_cast<index>(r * columns),
                p.targets.begin() + static_cast<index>((r + 1) * columns));
        if (loss == Loss::sparse) {
            std::fill(t.begin(), t.end(), 0);
            t[static_cast<std::size_t>(p.labels[r])] = 1;
        }
        const long double scale = p.scale[r], n = static_cast<long double>(columns);
        const auto logs = log_softmax(z.data(), columns);
        long double total = 0, sum = 0;
        for (double target : t) total += target;
        for (std::size_t c = 0; c < columns; ++c) {
            const long double zc = z[c], tc = t[c];
            long double probability = 0, gradient = 0;
            if (loss == Loss::sparse || loss == Loss::softmax) {
                if (tc != 0) sum -= tc * logs[c];
                probability = std::exp(logs[c]);
                gradient = probability * total - tc;
            } else if (loss == Loss::sigmoid) {
                sum += (std::max(zc, 0.0L) - zc * tc + std::log1p(std::exp(-std::fabs(zc)))) / n;
                probability = 1 / (1 + std::exp(-zc));
                gradient = (probability - tc) / n;
            } else {
                sum += (zc - tc) * (zc - tc) / n;
                gradient = 2 * (zc - tc) / n;
            }
            a.probabilities.push_back(static_cast<double>(probability));
            a.gradients.push_back(static_cast<double>(gradient * scale));
        }
        a.losses.push_back(static_cast<double>(sum));
    }
    return a;
}

template <class T>
struct Result {
    std::vector<T> losses, probabilities, gradients;
};

template <class T>
Result<T> run(const Problem<T>& p, Loss loss, bool in_place = false) {
    const index size = p.rows * p.columns;
    Result<T> got{unset<T>(p.rows), in_place ? p.z : unset<T>(size), unset<T>(size)};
    const T* z = in_place ? got.probabilities.data() : p.z.data();
    T *losses = got.losses.data(), *probabilities = got.probabilities.data(), *gradients = got.gradients.data();
    const T *t = p.targets.data(), *scale = p.scale.data();
    switch (loss) {
        case Loss::sparse:
            sparse_softmax_crossentropy_forward(p.rows, p.columns, z, p.labels.data(), probabilities, losses);
            sparse_softmax_crossentropy_backward(p.rows, p.columns, probabilities, p.labels.data(), scale, gradients);
            break;
        case Loss::softmax:
            softmax_crossentropy_forward(p.rows, p.columns, z, t, probabilities, losses);
            softmax_crossentropy_backward(p.rows, p.columns, probabilities, t, scale, gradients);
            break;
        case Loss::sigmoid:
            sigmoid_crossentropy_forward(p.rows, p.columns, z, t, probabilities, losses);
            sigmoid_crossentropy_backward(p.rows, p.columns, probabilities, t, scale, gradients);
            break;
        case Loss::squared:
            mean_squared_error_forward(p.rows, p.columns, z, t, losses);
            mean_squared_error_backward(p.rows, p.columns, z, t, scale, gradients);
            break;
    }
    return got;
}

template <class T>
void equals_formula(index rows, index columns, Loss loss, double deviation) {
    const Problem<T> p(rows, columns, loss, deviation);
    const Answer expected = exact(p, loss);
    const Result<T> got = run(p, loss);
    const std::string context = show(rows, columns, static_cast<int>(loss), deviation, sizeof(T));
    const double epsilon = static_cast<double>(std::numeric_limits<T>::epsilon());
    const double sums = epsilon * (8 + static_cast<double>(columns) / 4);  // of as many terms as there are columns
    CHECK_CLOSE(got.losses, expected.losses, sums, sums * (1 + deviation), context);
    if (loss != Loss::squared)
        CHECK_CLOSE(got.probabilities, expected.probabilities, sums + 10 * epsilon * deviation, 2e-38, context);
    CHECK_CLOSE(got.gradients, expected.gradients, sums, (sums + 10 * epsilon * deviation) * 4, context);
    if (loss == Loss::sparse) CHECK_FOR(same_bits(run(p, loss, true).losses, got.losses), context);
}

// The gradient formulas against the losses themselves: central differences.
void gradients_are_derivatives(Loss loss) {
    Problem<double> p(3, 11, loss, 1);
    const auto gradients = run(p, loss).gradients;
    Reals measured;
    const double step = 1e-5;
    for (std::size_t i = 0; i < p.z.size(); ++i) {
        const double saved = p.z[i];
        const std::size_t row = i / 11;
        p.z[i] = saved + step;
        const double up = run(p, loss).losses[row];
        p.z[i] = saved - step;
        const double down = run(p, loss).losses[row];
        p.z[i] = saved;
        measured.push_back((up - down) / (2 * step) * p.scale[row]);
    }
    CHECK_CLOSE(gradients, measured, 1e-7, 1e-8, show(static_cast<int>(loss)));
}

// Logits so large that a probability is 0 or 1: the losses stay what the logits say.
template <class T>
void extremes() {
    const std::vector<T> z{1000, -1000, 0, -3000, 1e4, 5};
    const std::vector<std::int64_t> labels{1, 0};
    std::vector<T> probabilities(6), losses(2);
    sparse_softmax_crossentropy_forward<T>(2, 3, z.data(), labels.data(), probabilities.data(), losses.data());
    CHECK_EQUAL(losses, (std::vector<T>{2000, 13000}), "");
    CHECK_EQUAL(probabilities, (std::vector<T>{1, 0, 0, 0, 1, 0}), "");
    const std::vector<T> targets{0, 1, 0, 1, 0, 0};
    softmax_crossentropy_forward<T>(2, 3, z.data(), targets.data(), probabilities.data(), losses.data());
    CHECK_EQUAL(losses, (std::vector<T>{2000, 13000}), "");
    const std::vector<T> wrong{0, 1, 1, 0};
    const std::vector<T> logits{500, -500, 2000, -2000};
    sigmoid_crossentropy_forward<T>(2, 2, logits.data(), wrong.data(), probabilities.data(), losses.data());
    CHECK_EQUAL(losses, (std::vector<T>{500, 0}), "");
    sigmoid_crossentropy_forward<T>(1, 4, logits.data(), wrong.data(), probabilities.data(), losses.data());
    CHECK_EQUAL(losses, (std::vector<T>{250, 0}), "");
}

template <class T>
void counting() {
    //                       label 0      first of two   2          last   NaN-free ties
    const std::vector<T> y{3, 2, 1, /**/ 5, 5, 1, /**/ 1, 5, 5, /**/ 0, 0, 1, /**/ -1, -1, -1};
    CHECK((count_correct<T>(5, 3, y.data(), std::vector<std::int64_t>{0, 0, 1, 2, 0}.data()) == 5));
    CHECK((count_correct<T>(5, 3, y.data(), std::vector<std::int64_t>{1, 1, 2, 0, 2}.data()) == 0));
    CHECK((count_correct<T>(5, 3, y.data(), std::vector<std::int64_t>{0, 1, 1, 0, 2}.data()) == 2));
    CHECK((count_correct<T>(0, 3, y.data(), nullptr) == 0));
}

void threads_agree(Loss loss) {
    const Problem<float> p(9000, 130, loss, 1);
    Result<float> first;
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        const auto got = run(p, loss);
        if (threads == 1) first = got;
        CHECK_FOR(same_bits(got.losses, first.losses) && same_bits(got.gradients, first.gradients),
                  show(static_cast<int>(loss), threads));
    }
}

}  // namespace

void test_loss() {
    const int threads = get_num_threads();
    for (Loss loss : {Loss::sparse, Loss::softmax, Loss::sigmoid, Loss::squared}) {
        for (index columns : {1, 2, 7, 8, 9, 10, 15, 16, 17, 35, 1000})
            for (double deviation : {0.1, 1.0, 10.0}) {
                equals_formula<float>(columns == 10 ? 1000 : 7, columns, loss, deviation);
                equals_formula<double>(7, columns, loss, deviation);
            }
        gradients_are_derivatives(loss);
        threads_agree(loss);
    }
    set_num_threads(threads);
    extremes<float>();
    extremes<double>();
    counting<float>();
    counting<double>();
}

}  // namespace vivace::tests
