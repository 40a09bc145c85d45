// The floor of any gRPC server: answers every unary call with the same bytes and reads none.
//
//     echo HOST:PORT REPLY_FILE
//
// The asynchronous interface with one completion queue and one thread: on two cores that are shared
// with the callers, a second thread costs more than it brings.

#include <grpcpp/generic/async_generic_service.h>
#include <grpcpp/grpcpp.h>

#include <fstream>
#include <iostream>
#include <iterator>
#include <memory>
#include <string>

namespace {

// One call, from its arrival to its end; each event of the queue moves it one state on.
class Call {
 public:
  Call(grpc::AsyncGenericService& service, grpc::ServerCompletionQueue& queue,
       const grpc::ByteBuffer& reply)
      : service_(service), queue_(queue), reply_(reply), stream_(&context_) {
    service_.RequestCall(&context_, &stream_, &queue_, &queue_, this);
  }

  void Proceed(bool ok) {
    switch (state_) {
      case State::kArriving:
        if (!ok) {  // the server ends
          delete this;
          return;
        }
        new Call(service_, queue_, reply_);
        state_ = State::kReading;
        stream_.Read(&request_, this);
        return;
      case State::kReading:
        state_ = State::kEnding;
        stream_.WriteAndFinish(reply_, grpc::WriteOptions(), grpc::Status::OK, this);
        return;
      case State::kEnding:
        delete this;
    }
  }

 private:
  enum class State { kArriving, kReading, kEnding };

  grpc::AsyncGenericService& service_;
  grpc::ServerCompletionQueue& queue_;
  const grpc::ByteBuffer& reply_;
  grpc::GenericServerContext context_;
  grpc::GenericServerAsyncReaderWriter stream_;
  grpc::ByteBuffer request_;
  State state_ = State::kArriving;
};

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: echo HOST:PORT REPLY_FILE\n";
    return 2;
  }
  std::ifstream file(argv[2], std::ios::binary);
  const std::string bytes((std::istreambuf_iterator<char>(file)), std::istreambuf_iterator<char>());
  const grpc::Slice slice(bytes);
  const grpc::ByteBuffer reply(&slice, 1);

  grpc::AsyncGenericService service;
  grpc::ServerBuilder builder;
  builder.SetMaxReceiveMessageSize(-1);
  builder.AddListeningPort(argv[1], grpc::InsecureServerCredentials());
  builder.RegisterAsyncGenericService(&service);
  const std::unique_ptr<grpc::ServerCompletionQueue> queue = builder.AddCompletionQueue();
  const std::unique_ptr<grpc::Server> server = builder.BuildAndStart();
  if (server == nullptr) {
    std::cerr << "cannot listen on " << argv[1] << "\n";
    return 1;
  }
  for (int waiting = 0; waiting < 256; ++waiting) {
    new Call(service, *queue, reply);
  }
  void* call = nullptr;
  bool ok = false;
  while (queue->Next(&call, &ok)) {
    static_cast<Call*>(call)->Proceed(ok);
  }
  return 0;
}
