import com.google.protobuf.ByteString;
import inference.GRPCInferenceServiceGrpc;
import inference.GrpcService.ModelInferRequest;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.util.concurrent.TimeUnit;
import java.util.stream.IntStream;

/** Runs the sample model {@code simple} once. */
public class Infer {
  static ByteString ints(IntStream values) {
    ByteBuffer buffer = ByteBuffer.allocate(64).order(ByteOrder.LITTLE_ENDIAN);
    values.forEach(buffer::putInt);
    return ByteString.copyFrom(buffer.flip());
  }

  static ModelInferRequest.InferInputTensor.Builder input(String name) {
    return ModelInferRequest.InferInputTensor.newBuilder()
        .setName(name).setDatatype("INT32").addShape(1).addShape(16);
  }

  public static void main(String[] args) {
    var channel = Grpc.newChannelBuilder(args[0], InsecureChannelCredentials.create()).build();
    var stub =
        GRPCInferenceServiceGrpc.newBlockingStub(channel).withDeadlineAfter(5, TimeUnit.SECONDS);
    var request = ModelInferRequest.newBuilder().setModelName("simple")
        .addInputs(input("INPUT0")).addRawInputContents(ints(IntStream.range(0, 16)))
        .addInputs(input("INPUT1")).addRawInputContents(ints(IntStream.generate(() -> 1).limit(16)))
        .build();
    var reply = stub.modelInfer(request);
    var sum = reply.getRawOutputContents(0).asReadOnlyByteBuffer().order(ByteOrder.LITTLE_ENDIAN);
    System.out.println(reply.getOutputs(0).getName() + " " + sum.getInt(0) + " " + sum.getInt(60));
    channel.shutdown();
  }
}
