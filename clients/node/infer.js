// Runs the sample model `simple` once: node infer.js HOST:PORT
const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const definition = loader.loadSync("grpc_service.proto", {
  includeDirs: [path.join(__dirname, "../../protos")],
  longs: Number,
});
const { inference } = grpc.loadPackageDefinition(definition);
const client = new inference.GRPCInferenceService(process.argv[2], grpc.credentials.createInsecure());

const ints = (values) => Buffer.from(new Int32Array(values).buffer); // little-endian, as hosts are
const numbers = [...Array(16).keys()];
const request = {
  modelName: "simple",
  inputs: ["INPUT0", "INPUT1"].map((name) => ({ name, datatype: "INT32", shape: [1, 16] })),
  rawInputContents: [ints(numbers), ints(numbers.map(() => 1))],
};
client.modelInfer(request, { deadline: Date.now() + 5000 }, (error, reply) => {
  if (error) throw error;
  const sum = reply.rawOutputContents[0];
  console.log(reply.outputs[0].name, sum.readInt32LE(0), sum.readInt32LE(60));
  client.close();
});
