#include <algorithm>
#include <cmath>

#include "check.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"
#include "vivace/rnn.h"

namespace vivace::tests {
namespace {

// Every cell, with and without mask and initial state, at ragged sizes: made to run under sanitizers. The directional
// derivative of the loss along a random direction of all inputs must be what the gradients say.
void directional_derivative(Cell cell, index batch, index steps, index inputs, index units, bool masked, bool reverse) {
    const RnnShape s{batch, steps, inputs, units, cell, reverse};
    const index gates = s.gates() * units, states = batch * steps * units;
    const index bias_size = cell == Cell::gru ? 2 * gates : gates;
    const auto x = reals<double>(batch * steps * inputs), w = reals<double>(inputs * gates),
               u = reals<double>(units * gates), b = reals<double>(bias_size), h0 = reals<double>(batch * units),
               c0 = reals<double>(batch * units), dy = reals<double>(states);
    std::vector<std::uint8_t> mask;
    for (index i = 0; masked && i < batch * steps; ++i) mask.push_back(rng() % 3 ? 1 : 0);
    const std::uint8_t* valid = masked && cell != Cell::output_gated ? mask.data() : nullptr;
    std::vector<double> workspace(static_cast<std::size_t>(batch * steps * s.width() * units)), h(dy.size()), c(dy.size());
    double* memory = cell == Cell::lstm ? c.data() : nullptr;
    const std::vector<std::vector<double>> start{x, w, u, b, h0, c0};
    std::vector<std::vector<double>> direction;
    for (const auto& v : start) direction.push_back(reals<double>(static_cast<index>(v.size())));

    const auto loss = [&](double step) {
        auto at = start;
        for (std::size_t i = 0; i < at.size(); ++i)
            for (std::size_t j = 0; j < at[i].size(); ++j) at[i][j] += step * direction[i][j];
        rnn_forward<double>(s, at[0].data(), at[1].data(), at[2].data(), at[3].data(), valid,
                            {at[4].data(), memory ? at[5].data() : nullptr}, nullptr, workspace.data(), h.data(), memory);
        double sum = 0;
        for (index n = 0; n < batch; ++n)
            for (index t = 0; t < steps; ++t)
                for (index i = 0; i < units; ++i) {
                    const index row = n * steps + t, time = reverse ? steps - 1 - t : t;
                    const double y = cell == Cell::output_gated
                                         ? workspace[static_cast<std::size_t>((n * steps + time) * 2 * units + units + i)]
                                         : h[static_cast<std::size_t>(row * units + i)];
                    sum += y * dy[static_cast<std::size_t>(row * units + i)];
                }
        return sum;
    };
    const double step = 1e-6, expected = (loss(step) - loss(-step)) / (2 * step);
    loss(0);
    std::vector<double> dx(x.size()), dw(w.size()), du(u.size()), db(b.size()), dh(h0.size()), dc(c0.size());
    rnn_backward<double>(s, x.data(), w.data(), u.data(), valid, {h0.data(), memory ? c0.data() : nullptr}, nullptr,
                         workspace.data(), h.data(), memory, dy.data(),
                         {dx.data(), dw.data(), du.data(), db.data(), dh.data(), dc.data()});
    const std::vector<double>* gradients[] = {&dx, &dw, &du, &db, &dh, &dc};
    double got = 0;
    for (std::size_t i = 0; i < 6; ++i)
        for (std::size_t j = 0; j < direction[i].size(); ++j) got += direction[i][j] * (*gradients[i])[j];
    CHECK(std::fabs(got - expected) <= 1e-5 * (1 + std::fabs(expected)));
}

// One sequence alone is run on every thread: at sizes where its units are shared out, the states are those of the loop.
void equals_reference(Cell cell, index batch, index units) {
    const RnnShape s{batch, 30, 3, units, cell, false};
    const index gates = s.gates() * units, size = batch * s.steps * units;
    const auto x = reals<double>(batch * s.steps * s.inputs), w = reals<double>(s.inputs * gates),
               b = reals<double>((cell == Cell::gru ? 2 : 1) * gates);
    auto u = reals<double>(units * gates);
    for (double& v : u) v /= static_cast<double>(units);
    std::vector<double> h(static_cast<std::size_t>(size)), c(h.size()), expected(h.size()),
        workspace(h.size() * static_cast<std::size_t>(s.width()));
    reference::rnn_forward(s, x.data(), w.data(), u.data(), b.data(), expected.data());
    const int before = get_num_threads();
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        rnn_forward<double>(s, x.data(), w.data(), u.data(), b.data(), nullptr, {nullptr, nullptr}, nullptr,
                            workspace.data(), h.data(), cell == Cell::lstm ? c.data() : nullptr);
        double most = 0;
        for (std::size_t i = 0; i < h.size(); ++i) most = std::max(most, std::fabs(h[i] - expected[i]));
        CHECK(most < 1e-12);
    }
    set_num_threads(before);
}

}  // namespace

void test_rnn() {
    for (Cell cell : {Cell::simple, Cell::lstm, Cell::gru})
        for (index batch : {1, 2, 3}) equals_reference(cell, batch, 203);
    for (Cell cell : {Cell::simple, Cell::lstm, Cell::gru, Cell::output_gated})
        for (bool masked : {false, true})
            for (bool reverse : {false, true}) {
                directional_derivative(cell, 1, 1, 1, 1, masked, reverse);
                directional_derivative(cell, 3, 5, 4, 7, masked, reverse);
                directional_derivative(cell, 17, 4, 9, 19, masked, reverse);
            }
}

}  // namespace vivace::tests
