// Streams, events and captured graphs.
//
// Work that is put on a stream waits in a queue. It runs when somebody waits for it, and then, in
// an order drawn from the seed, so may the work of other streams that has nothing left to wait for.
// What CUDA does not order, such as a stream that is used before its copy has ended on another one,
// comes in all orders. Handles of destroyed streams are given out again, as by CUDA.
#include <deque>
#include <map>
#include <memory>
#include <thread>
#include <utility>
#include <vector>

#include "runtime.hpp"

namespace cuda_on_host {
namespace {

using Number = std::uint64_t;

struct Graph {
  int device = 0;
  std::vector<Work> nodes;
};
struct Capture {
  cudaStreamCaptureMode mode = cudaStreamCaptureModeGlobal;
  std::thread::id thread;
  std::unique_ptr<Graph> graph;
  bool broken = false;
};
struct Stream {
  bool lives = false, blocking = false, legacy = false;
  int device = 0;
  Number lane = 0;           // number of its queue
  Number last = 0;           // the work that came last
  std::vector<Number> waits; // for work of other streams, before what comes next
  std::shared_ptr<Capture> capture;
};
struct Event {
  bool lives = false;
  int device = 0;
  Number work = 0;
  std::shared_ptr<Capture> capture;
};
struct Queued {
  Work work;
  int device = 0;
  Number number = 0;
  std::vector<Number> after;
};

struct State {
  std::map<cudaStream_t, std::unique_ptr<Stream>> streams; // and those of a device or a thread:
  std::map<int, Stream> legacy;
  std::map<std::pair<int, std::thread::id>, Stream> of_threads;
  std::map<cudaEvent_t, std::unique_ptr<Event>> events;
  std::map<Number, std::deque<Queued>> lanes;
  std::map<Number, Number> lane_of; // of work that is queued
  Number next = 1, next_lane = 1;
};
State &state() {
  static auto *const it = new State;
  return *it;
}

// Null, with a violation, if there is no such stream.
Stream *find(cudaStream_t handle) {
  State &all = state();
  const int device = current_device();
  if (handle == nullptr || handle == cudaStreamLegacy || handle == cudaStreamPerThread) {
    Stream &special = handle == cudaStreamPerThread
                          ? all.of_threads[{device, std::this_thread::get_id()}]
                          : all.legacy[device];
    if (!special.lives) {
      special.lives = true;
      special.legacy = handle != cudaStreamPerThread;
      special.blocking = !special.legacy;
      special.device = device;
      special.lane = all.next_lane++;
    }
    return &special;
  }
  const auto found = all.streams.find(handle);
  if (found != all.streams.end() && found->second->lives)
    return found->second.get();
  violation("a stream is used that does not exist");
  return nullptr;
}
template <class F> void each_stream(const F &f) {
  for (auto &one : state().streams)
    if (one.second->lives)
      f(*one.second);
  for (auto &one : state().of_threads)
    f(one.second);
  for (auto &one : state().legacy)
    f(one.second);
}

bool pending(Number number) { return state().lane_of.count(number) != 0; }
bool ready(const Queued &head) {
  for (const Number other : head.after)
    if (pending(other))
      return false;
  return true;
}

void run_head(std::deque<Queued> &lane) {
  Queued head = std::move(lane.front());
  lane.pop_front();
  cudaError_t &lasting = lasting_error(head.device);
  if (lasting == cudaSuccess && head.work.run) {
    const Open open(head.device);
    lasting = head.work.run();
  }
  state().lane_of.erase(head.number);
}

// Runs one piece of work: one that the target waits for, or any that can run.
void step(Number target) {
  State &all = state();
  if (draw(2) == 0) {
    std::vector<std::deque<Queued> *> heads;
    for (auto &one : all.lanes)
      if (!one.second.empty() && ready(one.second.front()))
        heads.push_back(&one.second);
    run_head(*heads[draw(static_cast<unsigned>(heads.size()))]);
    return;
  }
  std::deque<Queued> *lane = &all.lanes[all.lane_of[target]];
  while (!ready(lane->front()))
    for (const Number other : lane->front().after)
      if (pending(other)) {
        lane = &all.lanes[all.lane_of[other]];
        break;
      }
  run_head(*lane);
}
void finish(Number target) {
  while (pending(target))
    step(target);
}

void drop_empty_lanes() {
  auto &lanes = state().lanes;
  for (auto one = lanes.begin(); one != lanes.end();)
    one = one->second.empty() ? lanes.erase(one) : std::next(one);
}

Number put(Stream &stream, Work work) {
  State &all = state();
  Queued made;
  made.work = std::move(work);
  made.device = stream.device;
  made.number = all.next++;
  made.after = std::move(stream.waits);
  stream.waits.clear();
  if (stream.legacy)
    each_stream([&](const Stream &other) {
      if (other.blocking && other.device == stream.device)
        made.after.push_back(other.last);
    });
  else if (stream.blocking)
    made.after.push_back(all.legacy[stream.device].last);
  stream.last = made.number;
  all.lane_of[made.number] = stream.lane;
  all.lanes[stream.lane].push_back(std::move(made));
  return stream.last;
}

// Whether the legacy stream must not be touched, since one that it waits for is captured.
bool captured_beside(const Stream &stream, bool breaks) {
  bool any = false;
  if (stream.legacy)
    each_stream([&](const Stream &other) {
      if (other.blocking && other.capture && other.device == stream.device) {
        any = true;
        other.capture->broken = other.capture->broken || breaks;
      }
    });
  return any;
}

} // namespace

cudaError_t enqueue(cudaStream_t handle, Work work) {
  Stream *const stream = find(handle);
  if (!stream)
    return cudaErrorInvalidResourceHandle;
  if (captured_beside(*stream, true))
    return cudaErrorStreamCaptureImplicit;
  if (!stream->capture) {
    put(*stream, std::move(work));
    return cudaSuccess;
  }
  if (stream->capture->broken)
    return cudaErrorStreamCaptureInvalidated;
  stream->capture->graph->nodes.push_back(std::move(work));
  return cudaSuccess;
}
int device_of(cudaStream_t handle) {
  const Stream *const stream = find(handle);
  return stream ? stream->device : -1;
}

cudaError_t stream_create(cudaStream_t *handle, bool blocking) {
  State &all = state();
  // The last one that was destroyed comes back, whether its work is done or not.
  Stream *made = nullptr;
  for (auto &one : all.streams)
    if (!one.second->lives) {
      made = one.second.get();
      *handle = one.first;
    }
  if (!made) {
    auto fresh = std::make_unique<Stream>();
    made = fresh.get();
    *handle = reinterpret_cast<cudaStream_t>(made);
    all.streams[*handle] = std::move(fresh);
  }
  *made = Stream();
  made->lives = true;
  made->blocking = blocking;
  made->device = current_device();
  made->lane = all.next_lane++;
  return cudaSuccess;
}
cudaError_t stream_destroy(cudaStream_t handle) {
  Stream *const stream = find(handle);
  if (!stream)
    return cudaErrorInvalidResourceHandle;
  stream->lives = false;
  return cudaSuccess;
}
cudaError_t stream_synchronize(cudaStream_t handle) {
  Stream *const stream = find(handle);
  if (!stream)
    return cudaErrorInvalidResourceHandle;
  if (captured_beside(*stream, true))
    return cudaErrorStreamCaptureImplicit;
  if (stream->capture) {
    stream->capture->broken = true;
    return cudaErrorStreamCaptureUnsupported;
  }
  const cudaError_t status = capture_forbids();
  if (status != cudaSuccess)
    return status;
  finish(stream->legacy ? put(*stream, {}) : stream->last);
  drop_empty_lanes();
  return lasting_error(stream->device);
}
cudaError_t stream_wait(cudaStream_t handle, cudaEvent_t event) {
  Stream *const stream = find(handle);
  const auto found = state().events.find(event);
  if (!stream || found == state().events.end() || !found->second->lives)
    return cudaErrorInvalidResourceHandle;
  if (stream->capture != found->second->capture && found->second->work) {
    if (stream->capture)
      stream->capture->broken = true;
    return cudaErrorStreamCaptureIsolation; // (A second stream of a capture is not modelled.)
  }
  if (!stream->capture)
    stream->waits.push_back(found->second->work);
  return cudaSuccess;
}

// ---- capture ----

cudaError_t stream_capturing(cudaStream_t handle, cudaStreamCaptureStatus *status) {
  Stream *const stream = find(handle);
  if (!stream)
    return cudaErrorInvalidResourceHandle;
  if (captured_beside(*stream, false))
    return cudaErrorStreamCaptureImplicit;
  *status = !stream->capture          ? cudaStreamCaptureStatusNone
            : stream->capture->broken ? cudaStreamCaptureStatusInvalidated
                                      : cudaStreamCaptureStatusActive;
  return cudaSuccess;
}
cudaError_t capture_begin(cudaStream_t handle, cudaStreamCaptureMode mode) {
  Stream *const stream = find(handle);
  if (!stream)
    return cudaErrorInvalidResourceHandle;
  if (stream->legacy || stream->capture)
    return cudaErrorStreamCaptureUnsupported;
  stream->capture = std::make_shared<Capture>();
  stream->capture->mode = mode;
  stream->capture->thread = std::this_thread::get_id();
  stream->capture->graph = std::make_unique<Graph>();
  stream->capture->graph->device = stream->device;
  return cudaSuccess;
}
cudaError_t capture_end(cudaStream_t handle, cudaGraph_t *graph) {
  Stream *const stream = find(handle);
  *graph = nullptr;
  if (!stream || !stream->capture)
    return cudaErrorIllegalState;
  const std::shared_ptr<Capture> ended = std::move(stream->capture);
  stream->capture = nullptr;
  if (ended->broken)
    return cudaErrorStreamCaptureInvalidated;
  *graph = reinterpret_cast<cudaGraph_t>(ended->graph.release());
  return cudaSuccess;
}
namespace {
thread_local cudaStreamCaptureMode mode_of_thread = cudaStreamCaptureModeGlobal;
}
void capture_exchange(cudaStreamCaptureMode *mode) { std::swap(*mode, mode_of_thread); }
cudaError_t capture_forbids() {
  cudaError_t status = cudaSuccess;
  each_stream([&](const Stream &stream) {
    const Capture *const capture = stream.capture.get();
    if (!capture || capture->mode == cudaStreamCaptureModeRelaxed ||
        mode_of_thread == cudaStreamCaptureModeRelaxed)
      return;
    const bool others = capture->mode == cudaStreamCaptureModeGlobal &&
                        mode_of_thread == cudaStreamCaptureModeGlobal;
    if (capture->thread != std::this_thread::get_id() && !others)
      return;
    stream.capture->broken = true;
    status = cudaErrorStreamCaptureUnsupported;
  });
  return status;
}
cudaError_t graph_launch(cudaGraph_t graph, cudaStream_t handle) {
  for (const Work &node : reinterpret_cast<Graph *>(graph)->nodes) {
    const cudaError_t status = enqueue(handle, node);
    if (status != cudaSuccess)
      return status;
  }
  return cudaSuccess;
}
void graph_destroy(cudaGraph_t graph) { delete reinterpret_cast<Graph *>(graph); }

// ---- events ----

namespace {
Event *find(cudaEvent_t handle) {
  const auto found = state().events.find(handle);
  if (found != state().events.end() && found->second->lives)
    return found->second.get();
  violation("an event is used that does not exist");
  return nullptr;
}
} // namespace

cudaError_t event_create(cudaEvent_t *handle) {
  auto made = std::make_unique<Event>();
  made->lives = true;
  made->device = current_device();
  *handle = reinterpret_cast<cudaEvent_t>(made.get());
  state().events[*handle] = std::move(made);
  return cudaSuccess;
}
cudaError_t event_record(cudaEvent_t handle, cudaStream_t on) {
  Event *const event = find(handle);
  Stream *const stream = find(on);
  if (!event || !stream || event->device != stream->device)
    return cudaErrorInvalidResourceHandle;
  if (captured_beside(*stream, true))
    return cudaErrorStreamCaptureImplicit;
  event->capture = stream->capture;
  event->work = stream->capture ? 1 : put(*stream, {});
  return cudaSuccess;
}
namespace {
// The event, where it may be asked about its work.
cudaError_t asked(cudaEvent_t handle, Event *&event) {
  event = find(handle);
  if (!event)
    return cudaErrorInvalidResourceHandle;
  return event->capture ? cudaErrorCapturedEvent : capture_forbids();
}
} // namespace
cudaError_t event_query(cudaEvent_t handle) {
  Event *event;
  const cudaError_t status = asked(handle, event);
  if (status != cudaSuccess)
    return status;
  for (unsigned steps = draw(4); steps > 0 && pending(event->work); --steps)
    step(event->work);
  const cudaError_t lasting = lasting_error(event->device);
  return lasting != cudaSuccess ? lasting : pending(event->work) ? cudaErrorNotReady : cudaSuccess;
}
cudaError_t event_synchronize(cudaEvent_t handle) {
  Event *event;
  const cudaError_t status = asked(handle, event);
  if (status != cudaSuccess)
    return status;
  finish(event->work);
  return lasting_error(event->device);
}
cudaError_t event_destroy(cudaEvent_t handle) {
  Event *const event = find(handle);
  if (!event)
    return cudaErrorInvalidResourceHandle;
  event->lives = false;
  return cudaSuccess;
}

// ---- all of a device ----

void finish_device(int device) {
  for (;;) {
    Number target = 0;
    for (const auto &one : state().lanes)
      for (const Queued &queued : one.second)
        if (queued.device == device)
          target = queued.number;
    if (!target)
      break;
    finish(target);
  }
  drop_empty_lanes();
}
const char *uses_pinned(const void *p, std::size_t bytes) {
  const auto *const from = static_cast<const unsigned char *>(p), *const to = from + bytes;
  for (const auto &one : state().lanes)
    for (const Queued &queued : one.second) {
      const auto *const at = static_cast<const unsigned char *>(queued.work.pinned);
      if (at && at < to && at + queued.work.pinned_bytes > from)
        return queued.work.name;
    }
  return nullptr;
}
void forget_streams(int device) {
  each_stream([&](Stream &stream) {
    if (stream.device == device) {
      stream.lives = false;
      stream.capture = nullptr;
    }
  });
  for (auto &one : state().events)
    if (one.second->device == device)
      one.second->lives = false;
}
Counts living_streams() {
  Counts counts = {0, 0, state().lane_of.size()};
  for (const auto &one : state().streams)
    counts.streams += one.second->lives;
  for (const auto &one : state().events)
    counts.events += one.second->lives;
  return counts;
}

} // namespace cuda_on_host
