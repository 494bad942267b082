#include <algorithm>
#include <cmath>

#include "check.h"
#include "vivace/merge.h"
#include "vivace/parallel.h"
#include "vivace/reference.h"
#include "vivace/rnn.h"

namespace vivace::tests {
namespace {

// What a layer computes with, and one tape.
struct Layer {
    RnnShape s;
    std::vector<double> x, w, u, b, r, h0, c0, dy, tape;
    std::vector<std::uint8_t> mask;

    Layer(const RnnShape& shape, bool masked) : s(shape) {
        const index gates = s.gates() * s.units, rows = s.batch * (s.sequences ? s.steps : 1);
        x = reals<double>(s.batch * s.steps * s.inputs), w = reals<double>(s.inputs * gates);
        u = reals<double>(s.units * gates), b = reals<double>(s.bias_rows() * gates);
        r = reals<double>(s.units * s.outputs), h0 = reals<double>(s.batch * s.units);
        c0 = reals<double>(s.has_memory() ? s.batch * s.units : 0), dy = reals<double>(rows * s.output_columns());
        tape.resize(static_cast<std::size_t>(s.tape_size()));
        for (index i = 0; masked && i < s.batch * s.steps; ++i) mask.push_back(rng() % 3 ? 1 : 0);
    }
    RnnInputs<double> inputs(const std::vector<std::vector<double>>& at) const {
        return {at[0].data(), at[1].data(), at[2].data(), at[3].data(), at[4].data(), mask.empty() ? nullptr : mask.data(),
                at[5].data(), s.has_memory() ? at[6].data() : nullptr, true, 7, 1, 2};
    }
};

using Arrays = std::vector<std::vector<double>>;

// Inputs and weights, in RnnInputs' order.
Arrays arrays_of(const Layer& layer) { return {layer.x, layer.w, layer.u, layer.b, layer.r, layer.h0, layer.c0}; }

Arrays directions(const Arrays& start) {
    Arrays direction;
    for (const auto& v : start) direction.push_back(reals<double>(static_cast<index>(v.size())));
    return direction;
}

Arrays moved(Arrays at, const Arrays& direction, double step) {
    for (std::size_t i = 0; i < at.size(); ++i)
        for (std::size_t j = 0; j < at[i].size(); ++j) at[i][j] += step * direction[i][j];
    return at;
}

double inner_product(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

double inner_product(const Arrays& a, const Arrays& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += inner_product(a[i], b[i]);
    return sum;
}

RnnGradients<double> gradients_into(const RnnShape& s, const double* dy, Arrays& to) {
    return {dy, s.output_columns(), to[0].data(), false, to[1].data(), to[2].data(), to[3].data(), to[4].data(),
            to[5].data(), s.has_memory() ? to[6].data() : nullptr};
}

// The derivative of a loss of a step along a direction, by differences, must be what the gradients say.
template <class F>
void equals_difference(F&& loss, double got) {
    const double step = 1e-6, expected = (loss(step) - loss(-step)) / (2 * step);
    CHECK(std::fabs(got - expected) <= 1e-5 * (1 + std::fabs(expected)));
}

// Every cell, with and without mask and dropout, at ragged sizes: made to run under sanitizers. The directional
// derivative of the loss along a random direction of all inputs.
void directional_derivative(const RnnShape& s, bool masked) {
    Layer layer(s, masked && s.cell != Cell::output_gated);
    const Arrays start = arrays_of(layer), direction = directions(start);
    std::vector<double> y(layer.dy.size());
    const auto loss = [&](double step) {
        const Arrays at = moved(start, direction, step);
        rnn_forward<double>(s, layer.inputs(at), layer.tape.data(), {y.data(), s.output_columns(), nullptr, nullptr});
        return inner_product(y, layer.dy);
    };
    loss(0);
    Arrays gradients = moved(start, start, -1);
    rnn_backward<double>(s, layer.inputs(start), layer.tape.data(), y.data(), gradients_into(s, layer.dy.data(), gradients));
    equals_difference(loss, inner_product(direction, gradients));
}

// The same of two layers as one.
void directional_derivative(const RnnPair& s, bool masked) {
    Layer first(s.first, masked), second(s.second, masked);
    second.x = first.x;
    second.mask = first.mask;
    const Arrays starts[] = {arrays_of(first), arrays_of(second)};
    Arrays along[] = {directions(starts[0]), directions(starts[1])};
    along[1][0] = along[0][0];  // of x, which both see
    std::vector<double> y(static_cast<std::size_t>(s.first.batch * (s.first.sequences ? s.first.steps : 1) * s.output_columns())),
        tape(static_cast<std::size_t>(s.tape_size())), dy = reals<double>(static_cast<index>(y.size())), consumed = dy;
    const auto loss = [&](double step) {
        const Arrays ours = moved(starts[0], along[0], step), theirs = moved(starts[1], along[1], step);
        rnn_pair_forward<double>(s, first.inputs(ours), second.inputs(theirs), tape.data(), y.data());
        return inner_product(y, dy);
    };
    loss(0);
    Arrays ours = moved(starts[0], starts[0], -1), theirs = moved(starts[1], starts[1], -1);
    rnn_pair_backward<double>(s, first.inputs(starts[0]), second.inputs(starts[1]), tape.data(), consumed.data(),
                              gradients_into(s.first, nullptr, ours), gradients_into(s.second, nullptr, theirs));
    equals_difference(loss, inner_product(along[0], ours) + inner_product(along[1], theirs));  // theirs has no dx
}

// One sequence alone is run on every thread: at sizes where its units are shared out, the states are those of the loop,
// and without a tape too.
void equals_reference(Cell cell, index batch, index units, const Squash& activation) {
    RnnShape s{batch, 30, 3, units, cell, false};
    s.activation = activation;
    Layer layer(s, false);
    for (double& v : layer.u) v /= static_cast<double>(units);
    std::vector<double> expected(static_cast<std::size_t>(s.states_size())), y(expected.size());
    reference::rnn_forward(s, layer.x.data(), layer.w.data(), layer.u.data(), layer.b.data(), expected.data());
    const RnnInputs<double> in{layer.x.data(), layer.w.data(), layer.u.data(), layer.b.data(), nullptr, nullptr,
                               nullptr, nullptr, false, 0, 0, 0};
    const int before = get_num_threads();
    for (int threads : {1, 2, 3}) {
        set_num_threads(threads);
        rnn_forward<double>(s, in, threads == 2 ? nullptr : layer.tape.data(), {y.data(), units, nullptr, nullptr});
        double most = 0;
        for (std::size_t i = 0; i < y.size(); ++i) most = std::max(most, std::fabs(y[i] - expected[i]));
        CHECK(most < 1e-12);
    }
    set_num_threads(before);
}

}  // namespace

void test_rnn() {
    const Squash softsign{Activation::linear, true, Function::softsign, {}};
    for (Cell cell : {Cell::simple, Cell::lstm, Cell::gru, Cell::gru_reset_before})
        for (const Squash& activation : {Squash{Activation::tanh}, softsign})
            for (index batch : {1, 2, 3}) equals_reference(cell, batch, 203, activation);
    for (Cell cell : {Cell::simple, Cell::lstm, Cell::gru, Cell::gru_reset_before, Cell::output_gated})
        for (bool masked : {false, true})
            for (bool reverse : {false, true})
                for (bool sequences : {false, true})
                    for (double rate : {0.0, 0.5}) {
                        const index sizes[][4] = {{1, 1, 1, 1}, {3, 5, 4, 7}, {17, 4, 9, 19}};
                        for (const auto& n : sizes) {
                            RnnShape s{n[0], n[1], n[2], n[3], cell, reverse, {Activation::tanh}, {Activation::sigmoid}};
                            s.dropout = s.recurrent_dropout = rate;
                            s.sequences = sequences;
                            s.in_time = s.zero_masked = masked;
                            s.outputs = 3;
                            directional_derivative(s, masked);
                        }
                    }
    for (RnnPair::Merge merge : {RnnPair::Merge::concat, RnnPair::Merge::sum, RnnPair::Merge::mul, RnnPair::Merge::ave})
        for (bool masked : {false, true})
            for (bool sequences : {false, true})
                for (double rate : {0.0, 0.5}) {
                    const index units = merge == RnnPair::Merge::concat ? 11 : 7;
                    RnnShape first{3, 5, 4, 7, Cell::lstm, false}, second{3, 5, 4, units, Cell::gru_reset_before, true};
                    for (RnnShape* s : {&first, &second}) {
                        s->dropout = s->recurrent_dropout = rate;
                        s->sequences = sequences;
                        s->in_time = s->zero_masked = true;
                    }
                    directional_derivative({first, second, merge}, masked);
                }
}

}  // namespace vivace::tests
