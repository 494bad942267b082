// Two recurrent layers as one: their outputs side by side, or one upon the other.
#include "map.h"
#include "rnn_tape.h"

namespace vivace {

namespace {

index output_size(const RnnPair& s) {
    return s.first.batch * (s.first.sequences ? s.first.steps : 1) * s.output_columns();
}

template <class T>
void halve(index size, T* values) {
    map<T>(size, cheap, values, [](vec<T> v) { return v * T{0.5}; }, values);
}

}  // namespace

template <class T>
void rnn_pair_forward(const RnnPair& s, const RnnInputs<T>& first, const RnnInputs<T>& second, T* tape, T* y) {
    const index stride = s.output_columns();
    const bool beside = s.merge == RnnPair::Merge::concat;
    const Put put = beside ? Put::write : s.merge == RnnPair::Merge::mul ? Put::multiply : Put::add;
    rnn_forward<T>(s.first, first, tape, {y, stride, nullptr, nullptr});
    rnn_forward<T>(s.second, second, tape ? tape + s.first.tape_size() : nullptr,
                   {beside ? y + s.first.units : y, stride, nullptr, nullptr, put});
    if (s.merge == RnnPair::Merge::ave) halve(output_size(s), y);
}

template <class T>
void rnn_pair_backward(const RnnPair& s, const RnnInputs<T>& first, const RnnInputs<T>& second, T* tape, T* dy,
                       RnnGradients<T> ours, RnnGradients<T> theirs) {
    T* const other = tape + s.first.tape_size();
    const index size = output_size(s);
    Scratch<T> products(s.merge == RnnPair::Merge::mul ? size : 0);
    const auto times_output = [&](const RnnShape& shape, const RnnInputs<T>& in, T* part, T* to) {
        put_out<T>(shape, {shape, in, Tape<T>(shape, in, part, nullptr)}, to, s.output_columns(), Put::multiply);
    };
    ours.dy = dy;
    theirs.dy = s.merge == RnnPair::Merge::concat ? dy + s.first.units : dy;
    ours.stride = theirs.stride = s.output_columns();
    if (s.merge == RnnPair::Merge::ave) halve(size, dy);
    if (s.merge == RnnPair::Merge::mul) {  // each one's gradient is what the other put out times dy
        std::copy_n(dy, size, products.get());
        times_output(s.second, second, other, products);
        ours.dy = products;
    }
    rnn_backward<T>(s.first, first, tape, nullptr, ours);
    if (s.merge == RnnPair::Merge::mul) times_output(s.first, first, tape, dy);  // its states are still there
    theirs.dx = ours.dx;
    theirs.add_dx = true;
    rnn_backward<T>(s.second, second, other, nullptr, theirs);
}

#define INSTANTIATE(T)                                                                                           \
    template void rnn_pair_forward(const RnnPair&, const RnnInputs<T>&, const RnnInputs<T>&, T*, T*);            \
    template void rnn_pair_backward(const RnnPair&, const RnnInputs<T>&, const RnnInputs<T>&, T*, T*, RnnGradients<T>, \
                                    RnnGradients<T>);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace vivace
