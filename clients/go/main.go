// Command infer runs the sample model `simple` once.
package main

import (
	"context"
	"encoding/binary"
	"fmt"
	"log"
	"os"
	"time"

	"example.com/infer/inference"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
)

func ints(next func(i int) int32) []byte {
	var data []byte
	for i := range 16 {
		data = binary.LittleEndian.AppendUint32(data, uint32(next(i)))
	}
	return data
}

func main() {
	connection, err := grpc.NewClient(os.Args[1], grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		log.Fatal(err)
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	reply, err := inference.NewGRPCInferenceServiceClient(connection).ModelInfer(ctx, &inference.ModelInferRequest{
		ModelName: "simple",
		Inputs: []*inference.ModelInferRequest_InferInputTensor{
			{Name: "INPUT0", Datatype: "INT32", Shape: []int64{1, 16}},
			{Name: "INPUT1", Datatype: "INT32", Shape: []int64{1, 16}},
		},
		RawInputContents: [][]byte{
			ints(func(i int) int32 { return int32(i) }),
			ints(func(int) int32 { return 1 }),
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	sum := reply.RawOutputContents[0]
	fmt.Println(reply.Outputs[0].Name, binary.LittleEndian.Uint32(sum), binary.LittleEndian.Uint32(sum[60:]))
}
